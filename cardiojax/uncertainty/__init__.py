"""Where a segmentation may be wrong: maps in [0, 1] per pixel."""

from cardiojax.uncertainty.entropy import entropy as entropy
