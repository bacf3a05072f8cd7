"""Numbers of the guidelines on chamber quantification that are made of other measurements, and their ranges."""
