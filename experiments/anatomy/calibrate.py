"""Limits of the anatomical criteria, measured on the true masks of CAMUS.

Painchaud et al., IEEE TMI 2020, fix the limits; 7.5 % of the true validation masks fail them at 224 x 224, nearly all
by the frontier of myocardium and atrium. This prints the extremes of the 1,600 training masks, for all and by view, and
the share of the 200 validation masks that each set of limits calls valid: 92.5 % with the published ones, 99.5 % with
those measured here. About two minutes on two cores.

Run: ``python -m experiments.anatomy.calibrate --data FOLDER`` with ``camus224_train.npz`` and ``camus224_val.npz``.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import anatomy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is measured.

    Attributes:
        data: Folder of the two splits.
        coverage: Share of the training masks that each limit alone lets pass.
    """

    data: Path
    coverage: float = 1.0


def main(config: Config) -> dict[str, anatomy.Thresholds]:
    """Measures and prints.

    Args:
        config: What is measured.

    Returns:
        Limits for all views together and for each.
    """
    train, val = (np.load(config.data / f"camus224_{split}.npz") for split in ("train", "val"))
    measured = {}
    for name, views in (("both", anatomy.VIEWS), *((view, (view,)) for view in anatomy.VIEWS)):
        masks = jnp.asarray(train["label"][np.isin(train["view"], views)], jnp.int32)
        limits = anatomy.calibrate(masks, coverage=config.coverage)
        measured[name] = anatomy.Thresholds(*(float(limit) for limit in limits))
        print(name, measured[name])
    labels, views = jnp.asarray(val["label"], jnp.int32), val["view"]
    for name, limits in (("published", anatomy.CAMUS), ("calibrated", measured["both"])):
        print(f"{name}: {float(anatomy.is_valid(labels, thresholds=limits).mean()):.1%} of the validation masks valid")
    by_view = [jax.jit(anatomy.is_valid)(labels[views == v], thresholds=measured[v]) for v in anatomy.VIEWS]
    print(f"calibrated by view: {float(jnp.concatenate(by_view).mean()):.1%}")
    return measured


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
