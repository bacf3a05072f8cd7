"""How good a segmentation is."""

from cardiojax.metrics.overlap import dice as dice
from cardiojax.metrics.overlap import jaccard as jaccard
from cardiojax.metrics.surface import hausdorff as hausdorff
from cardiojax.metrics.surface import hausdorff95 as hausdorff95
from cardiojax.metrics.surface import mean_absolute_distance as mean_absolute_distance
from cardiojax.metrics.surface import outline as outline
