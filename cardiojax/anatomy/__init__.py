"""What makes a segmentation a heart: criteria and their verdict, and what describes its shape."""

from cardiojax.anatomy.attributes import Attributes as Attributes
from cardiojax.anatomy.attributes import Landmarks as Landmarks
from cardiojax.anatomy.attributes import attributes as attributes
from cardiojax.anatomy.attributes import landmarks as landmarks
from cardiojax.anatomy.check import Report as Report
from cardiojax.anatomy.check import check as check
from cardiojax.anatomy.check import is_valid as is_valid
from cardiojax.anatomy.criteria import CAMUS as CAMUS
from cardiojax.anatomy.criteria import CRITERIA as CRITERIA
from cardiojax.anatomy.criteria import NAMES as NAMES
from cardiojax.anatomy.criteria import Criterion as Criterion
from cardiojax.anatomy.criteria import Thresholds as Thresholds
from cardiojax.anatomy.midline import Midline as Midline
from cardiojax.anatomy.midline import midline as midline
from cardiojax.anatomy.soft import soft_attributes as soft_attributes
