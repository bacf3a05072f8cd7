"""Everything put together, one file a command: from files to weights, scores and reports."""
