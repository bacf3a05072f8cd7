"""How good a segmentation is."""

from cardiojax.metrics.calibration import Reliability as Reliability
from cardiojax.metrics.calibration import adaptive_reliability as adaptive_reliability
from cardiojax.metrics.calibration import calibration_error as calibration_error
from cardiojax.metrics.calibration import correlation as correlation
from cardiojax.metrics.calibration import mutual_information as mutual_information
from cardiojax.metrics.calibration import reliability as reliability
from cardiojax.metrics.overlap import dice as dice
from cardiojax.metrics.overlap import jaccard as jaccard
from cardiojax.metrics.ranking import Curve as Curve
from cardiojax.metrics.ranking import auroc as auroc
from cardiojax.metrics.ranking import risk_coverage as risk_coverage
from cardiojax.metrics.ranking import sparsification as sparsification
from cardiojax.metrics.surface import hausdorff as hausdorff
from cardiojax.metrics.surface import hausdorff95 as hausdorff95
from cardiojax.metrics.surface import mean_absolute_distance as mean_absolute_distance
from cardiojax.metrics.surface import outline as outline
