"""Cardiac ultrasound image analysis in JAX, as pure functions that jit, vmap, differentiate and shard."""

import importlib
from typing import TYPE_CHECKING, Any

from cardiojax import labels as labels
from cardiojax import types as types

if TYPE_CHECKING:
    from cardiojax import adaptation as adaptation
    from cardiojax import anatomy as anatomy
    from cardiojax import clinical as clinical
    from cardiojax import data as data
    from cardiojax import latent as latent
    from cardiojax import losses as losses
    from cardiojax import metrics as metrics
    from cardiojax import models as models
    from cardiojax import ops as ops
    from cardiojax import pipeline as pipeline
    from cardiojax import temporal as temporal
    from cardiojax import train as train
    from cardiojax import uncertainty as uncertainty
    from cardiojax import zoo as zoo

__version__ = "0.1.0"

_ROOMS = frozenset(
    {
        "adaptation",
        "anatomy",
        "clinical",
        "data",
        "latent",
        "losses",
        "metrics",
        "models",
        "ops",
        "pipeline",
        "temporal",
        "train",
        "uncertainty",
        "zoo",
    }
)


def __getattr__(name: str) -> Any:
    """Imports a room the first time it is asked for, so that ``import cardiojax`` stays quick."""
    if name in _ROOMS:
        return importlib.import_module(f"cardiojax.{name}")
    raise AttributeError(f"module 'cardiojax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
