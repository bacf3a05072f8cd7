"""``cardiojax train``: trains a model, or resumes.

SIGTERM and Ctrl-C end a run after its present step with a checkpoint, see `cardiojax.cli.signals`.
"""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from cardiojax import runtime, train
from cardiojax.cli.reporter import RichReporter
from cardiojax.cli.signals import StopRequest
from cardiojax.recipes.crisp import TrainCRISPConfig, train_crisp
from cardiojax.recipes.nnunet import TrainNNUNetConfig, train_nnunet
from cardiojax.recipes.run import RunResult
from cardiojax.recipes.segmentation import TrainUNetConfig, train_unet
from cardiojax.recipes.vae import TrainVAEConfig, train_vae
from cardiojax.recipes.view import TrainViewConfig, train_view


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


def view(config: Annotated[TrainViewConfig, tyro.conf.arg(name="")]) -> None:
    """Trains a classifier of apical views."""
    _train(train_view, config)


def _train(recipe: Callable[..., RunResult], config: Any) -> None:
    runtime.keep_freed_memory()
    train.start_processes(config.mesh)
    with RichReporter() as reporter, StopRequest() as request:
        result = recipe(config, reporter=reporter, should_stop=request)
    if result.interrupted:
        step = int(result.state.step)
        print(f"cardiojax: stopped at step {step}; the same command resumes the run", file=sys.stderr)
        raise SystemExit(request.exit_status)
    print(f"best score {result.best_score:.4f} at step {result.best_step}: {config.out / 'weights.safetensors'}")
