"""Networks: the only room that knows Flax."""

from flax.linen import Module as Module

from cardiojax.models.blocks import ConvBlock as ConvBlock
from cardiojax.models.blocks import InstanceNorm as InstanceNorm
from cardiojax.models.blocks import UpConv as UpConv
from cardiojax.models.crisp import CRISP as CRISP
from cardiojax.models.crisp import CRISP_PRESETS as CRISP_PRESETS
from cardiojax.models.crisp import CRISPConfig as CRISPConfig
from cardiojax.models.crisp import CRISPOutput as CRISPOutput
from cardiojax.models.crisp import KnownShapes as KnownShapes
from cardiojax.models.crisp import ShapeCodes as ShapeCodes
from cardiojax.models.heads import ConfidenceHead as ConfidenceHead
from cardiojax.models.unet import UNET_PRESETS as UNET_PRESETS
from cardiojax.models.unet import UNet as UNet
from cardiojax.models.unet import UNetConfig as UNetConfig
from cardiojax.models.unet import UNetOutput as UNetOutput
from cardiojax.models.vae import VAE as VAE
from cardiojax.models.vae import VAE_PRESETS as VAE_PRESETS
from cardiojax.models.vae import Posterior as Posterior
from cardiojax.models.vae import VAEConfig as VAEConfig
from cardiojax.models.vae import VAEOutput as VAEOutput
