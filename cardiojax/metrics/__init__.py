"""How good a segmentation is."""

from cardiojax.metrics.overlap import dice as dice
from cardiojax.metrics.overlap import jaccard as jaccard
