"""``cardiojax evaluate``: scores a segmentation model."""

from typing import Annotated

import tyro

from cardiojax import train
from cardiojax.evaluation.segmentation import EvaluateConfig, evaluate


def evaluate_command(config: Annotated[EvaluateConfig, tyro.conf.arg(name="")]) -> None:
    """Scores a model as the CAMUS paper does."""
    train.start_processes(config.mesh)
    table = evaluate(config)
    if train.is_writer():
        print(table, end="")
