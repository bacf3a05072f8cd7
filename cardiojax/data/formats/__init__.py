"""One file a format: each decodes bytes to an array in upright (time, row, column) order."""
