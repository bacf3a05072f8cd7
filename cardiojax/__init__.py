"""Cardiac ultrasound image analysis in JAX, as pure functions that jit, vmap, differentiate and shard."""

import importlib
import importlib.metadata
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cardiojax import adaptation as adaptation
    from cardiojax import analysis as analysis
    from cardiojax import anatomy as anatomy
    from cardiojax import archive as archive
    from cardiojax import clinical as clinical
    from cardiojax import correction as correction
    from cardiojax import data as data
    from cardiojax import evaluation as evaluation
    from cardiojax import labels as labels
    from cardiojax import latent as latent
    from cardiojax import losses as losses
    from cardiojax import measurement as measurement
    from cardiojax import metrics as metrics
    from cardiojax import models as models
    from cardiojax import ops as ops
    from cardiojax import recipes as recipes
    from cardiojax import report as report
    from cardiojax import runtime as runtime
    from cardiojax import study as study
    from cardiojax import temporal as temporal
    from cardiojax import train as train
    from cardiojax import types as types
    from cardiojax import uncertainty as uncertainty
    from cardiojax import zoo as zoo

__version__ = "0.1.0"

#: Releases of jaxlib that compute wrong results or crash on CPU: jax-ml/jax issues 39103 and 39257.
_BROKEN_JAXLIB = frozenset({"0.10.2", "0.11.0"})

_SUBPACKAGES = frozenset(
    {
        "adaptation",
        "analysis",
        "anatomy",
        "archive",
        "clinical",
        "correction",
        "data",
        "evaluation",
        "labels",
        "latent",
        "losses",
        "measurement",
        "metrics",
        "models",
        "ops",
        "recipes",
        "report",
        "runtime",
        "study",
        "temporal",
        "train",
        "types",
        "uncertainty",
        "zoo",
    }
)


def __getattr__(name: str) -> Any:
    """Imports a subpackage on first access, so that ``import cardiojax`` stays quick."""
    if name in _SUBPACKAGES:
        return importlib.import_module(f"cardiojax.{name}")
    raise AttributeError(f"module 'cardiojax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES})


def _warn_of_broken_jaxlib() -> None:
    version = importlib.metadata.version("jaxlib")
    if version in _BROKEN_JAXLIB:
        warnings.warn(
            f"jaxlib {version} computes wrong results or crashes on CPU (https://github.com/jax-ml/jax/issues/39103); "
            "install another release: pip install 'jax!=0.10.2,!=0.11.0'",
            RuntimeWarning,
            stacklevel=3,
        )


_warn_of_broken_jaxlib()
