"""``cardiojax train``: trains a model, or resumes."""

from collections.abc import Callable
from typing import Annotated, Any

import tyro

from cardiojax import train
from cardiojax.cli.reporter import RichReporter
from cardiojax.recipes.crisp import TrainCRISPConfig, train_crisp
from cardiojax.recipes.nnunet import TrainNNUNetConfig, train_nnunet
from cardiojax.recipes.segmentation import TrainUNetConfig, train_unet
from cardiojax.recipes.vae import TrainVAEConfig, train_vae


def unet(config: Annotated[TrainUNetConfig, tyro.conf.arg(name="")]) -> None:
    """Trains a U-Net."""
    _train(train_unet, config)


def nnunet(config: Annotated[TrainNNUNetConfig, tyro.conf.arg(name="")]) -> None:
    """Trains an nnU-Net."""
    _train(train_nnunet, config)


def vae(config: Annotated[TrainVAEConfig, tyro.conf.arg(name="")]) -> None:
    """Trains a shape autoencoder."""
    _train(train_vae, config)


def crisp(config: Annotated[TrainCRISPConfig, tyro.conf.arg(name="")]) -> None:
    """Trains the encoders of CRISP."""
    _train(train_crisp, config)


def _train(recipe: Callable[..., train.FitResult], config: Any) -> None:
    with RichReporter() as reporter:
        result = recipe(config, reporter=reporter)
    print(f"best score {result.best_score:.4f} at step {result.best_step}: {config.out / 'weights.safetensors'}")
