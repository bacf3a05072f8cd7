"""How good a segmentation is."""

from cardiojax.metrics.calibration import Reliability as Reliability
from cardiojax.metrics.calibration import adaptive_reliability as adaptive_reliability
from cardiojax.metrics.calibration import calibration_error as calibration_error
from cardiojax.metrics.calibration import correlation as correlation
from cardiojax.metrics.calibration import mutual_information as mutual_information
from cardiojax.metrics.calibration import reliability as reliability
from cardiojax.metrics.overlap import dice as dice
from cardiojax.metrics.overlap import dice_per_class as dice_per_class
from cardiojax.metrics.overlap import jaccard as jaccard
from cardiojax.metrics.overlap import jaccard_per_class as jaccard_per_class
from cardiojax.metrics.ranking import Curve as Curve
from cardiojax.metrics.ranking import auroc as auroc
from cardiojax.metrics.ranking import risk_coverage as risk_coverage
from cardiojax.metrics.ranking import sparsification as sparsification
from cardiojax.metrics.structures import FOREGROUND as FOREGROUND
from cardiojax.metrics.structures import Structure as Structure
from cardiojax.metrics.structures import class_masks as class_masks
from cardiojax.metrics.summary import Summary as Summary
from cardiojax.metrics.summary import is_missed as is_missed
from cardiojax.metrics.summary import summarize as summarize
from cardiojax.metrics.surface import average_symmetric_surface_distance as average_symmetric_surface_distance
from cardiojax.metrics.surface import (
    average_symmetric_surface_distance_per_class as average_symmetric_surface_distance_per_class,
)
from cardiojax.metrics.surface import hausdorff as hausdorff
from cardiojax.metrics.surface import hausdorff95 as hausdorff95
from cardiojax.metrics.surface import hausdorff95_per_class as hausdorff95_per_class
from cardiojax.metrics.surface import hausdorff_per_class as hausdorff_per_class
from cardiojax.metrics.surface import mean_absolute_distance as mean_absolute_distance
from cardiojax.metrics.surface import mean_absolute_distance_per_class as mean_absolute_distance_per_class
from cardiojax.metrics.surface import outline as outline
