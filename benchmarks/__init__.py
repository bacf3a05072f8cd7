"""Benchmarks: one script a question, ours and the peer's from one run."""
