"""Everything put together: from files to weights, scores and reports."""

from cardiojax.pipeline.densify import DensifyConfig as DensifyConfig
from cardiojax.pipeline.densify import densify as densify
from cardiojax.pipeline.training import TrainUNetConfig as TrainUNetConfig
from cardiojax.pipeline.training import train_unet as train_unet
