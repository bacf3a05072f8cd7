"""Where a segmentation may be wrong: a map in [0, 1] per pixel and one score per image, whatever the method."""

from cardiojax.uncertainty.augmentation import AUGMENTATIONS as AUGMENTATIONS
from cardiojax.uncertainty.augmentation import Augmentation as Augmentation
from cardiojax.uncertainty.augmentation import average_over_augmentations as average_over_augmentations
from cardiojax.uncertainty.augmentation import tta as tta
from cardiojax.uncertainty.conformal import RiskThreshold as RiskThreshold
from cardiojax.uncertainty.conformal import conformal_quantile as conformal_quantile
from cardiojax.uncertainty.conformal import control_risk as control_risk
from cardiojax.uncertainty.conformal import missed_errors as missed_errors
from cardiojax.uncertainty.crisp import RetrievedShapes as RetrievedShapes
from cardiojax.uncertainty.crisp import ShapeBank as ShapeBank
from cardiojax.uncertainty.crisp import crisp as crisp
from cardiojax.uncertainty.crisp import kernel_bandwidth as kernel_bandwidth
from cardiojax.uncertainty.crisp import retrieve_shapes as retrieve_shapes
from cardiojax.uncertainty.edge import edge as edge
from cardiojax.uncertainty.entropy import entropy as entropy
from cardiojax.uncertainty.entropy import softmax_entropy as softmax_entropy
from cardiojax.uncertainty.learned import heteroscedastic as heteroscedastic
from cardiojax.uncertainty.learned import learned_confidence as learned_confidence
from cardiojax.uncertainty.result import Uncertainty as Uncertainty
from cardiojax.uncertainty.result import from_map as from_map
from cardiojax.uncertainty.result import is_blank as is_blank
from cardiojax.uncertainty.sampling import deep_ensemble as deep_ensemble
from cardiojax.uncertainty.sampling import mc_dropout as mc_dropout
from cardiojax.uncertainty.sampling import stack_members as stack_members
from cardiojax.uncertainty.temperature import Temperature as Temperature
from cardiojax.uncertainty.temperature import fit_temperature as fit_temperature
