"""Training recipes: one configuration and one function for each packaged model."""

from cardiojax.recipes.adapt import AdaptConfig as AdaptConfig
from cardiojax.recipes.adapt import Adapted as Adapted
from cardiojax.recipes.adapt import adapt as adapt
from cardiojax.recipes.adapt import batches as batches
from cardiojax.recipes.bank import BuildBankConfig as BuildBankConfig
from cardiojax.recipes.bank import build_bank as build_bank
from cardiojax.recipes.crisp import TrainCRISPConfig as TrainCRISPConfig
from cardiojax.recipes.crisp import train_crisp as train_crisp
from cardiojax.recipes.nnunet import TrainNNUNetConfig as TrainNNUNetConfig
from cardiojax.recipes.nnunet import train_nnunet as train_nnunet
from cardiojax.recipes.run import RunConfig as RunConfig
from cardiojax.recipes.run import RunResult as RunResult
from cardiojax.recipes.run import run as run
from cardiojax.recipes.segmentation import TrainUNetConfig as TrainUNetConfig
from cardiojax.recipes.segmentation import train_unet as train_unet
from cardiojax.recipes.vae import TrainVAEConfig as TrainVAEConfig
from cardiojax.recipes.vae import train_vae as train_vae
from cardiojax.recipes.view import TrainViewConfig as TrainViewConfig
from cardiojax.recipes.view import train_view as train_view
