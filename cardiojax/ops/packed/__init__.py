"""Masks with 32 pixels in a word: connected components and exact distances by integer operations."""
