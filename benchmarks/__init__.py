"""Benchmarks: one script a question, ours and the baseline's from one run."""
