"""nnU-Net: plans, layers in any number of dimensions, and the network."""

from cardiojax.models.nnunet.network import NNUNET_PRESETS as NNUNET_PRESETS
from cardiojax.models.nnunet.network import NNUNet as NNUNet
from cardiojax.models.nnunet.network import NNUNetOutput as NNUNetOutput
from cardiojax.models.nnunet.plan import PLAN_PRESETS as PLAN_PRESETS
from cardiojax.models.nnunet.plan import Plan as Plan
from cardiojax.models.nnunet.plan import make_plan as make_plan
from cardiojax.models.nnunet.plan import target_spacing as target_spacing
