"""Differentiable forms of the criteria and the attributes, on probabilities."""
