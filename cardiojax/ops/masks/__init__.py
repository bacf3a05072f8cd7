"""Geometry of binary masks: contours, hulls, landmarks, morphology."""
