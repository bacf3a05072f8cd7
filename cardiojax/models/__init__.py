"""Networks: the only room that knows Flax."""

from flax.linen import Module as Module

from cardiojax.models import sam as sam
from cardiojax.models.blocks import ConvBlock as ConvBlock
from cardiojax.models.blocks import InstanceNorm as InstanceNorm
from cardiojax.models.blocks import UpConv as UpConv
from cardiojax.models.mae import MAE as MAE
from cardiojax.models.mae import MAEConfig as MAEConfig
from cardiojax.models.mae import MAEOutput as MAEOutput
from cardiojax.models.nnunet import NNUNET_PRESETS as NNUNET_PRESETS
from cardiojax.models.nnunet import NNUNet as NNUNet
from cardiojax.models.nnunet import NNUNetOutput as NNUNetOutput
from cardiojax.models.plan import PLAN_PRESETS as PLAN_PRESETS
from cardiojax.models.plan import Plan as Plan
from cardiojax.models.plan import make_plan as make_plan
from cardiojax.models.plan import target_spacing as target_spacing
from cardiojax.models.transformer import TransformerConfig as TransformerConfig
from cardiojax.models.transformer import resize_positions as resize_positions
from cardiojax.models.transformer import sine_positions as sine_positions
from cardiojax.models.transformer import stack_blocks as stack_blocks
from cardiojax.models.unet import UNET_PRESETS as UNET_PRESETS
from cardiojax.models.unet import UNet as UNet
from cardiojax.models.unet import UNetConfig as UNetConfig
from cardiojax.models.unet import UNetOutput as UNetOutput
from cardiojax.models.unetr import UNETR as UNETR
from cardiojax.models.unetr import UNETRConfig as UNETRConfig
from cardiojax.models.vit import VIT_PRESETS as VIT_PRESETS
from cardiojax.models.vit import ViT as ViT
from cardiojax.models.vit import ViTConfig as ViTConfig
from cardiojax.models.vit import ViTOutput as ViTOutput
