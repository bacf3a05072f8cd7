"""``cardiojax evaluate``: scores a segmentation model."""

from typing import Annotated

import tyro

from cardiojax.evaluation.segmentation import EvaluateConfig, evaluate


def evaluate_command(config: Annotated[EvaluateConfig, tyro.conf.arg(name="")]) -> None:
    """Scores a model as the CAMUS paper does."""
    print(evaluate(config), end="")
