"""Stored arrays: NIfTI, MetaImage and NumPy files, brought to upright (time, row, column) order."""
