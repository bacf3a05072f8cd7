"""Checkpoints of the projects that published the models: downloaded, read and converted."""
