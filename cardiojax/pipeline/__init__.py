"""Everything put together: from files to weights, scores and reports."""

from cardiojax.pipeline.training import TrainUNetConfig as TrainUNetConfig
from cardiojax.pipeline.training import train_unet as train_unet
