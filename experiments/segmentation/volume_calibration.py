"""Factors that take the bias out of a network's volumes, learned on training patients.

Run: ``python -m experiments.segmentation.volume_calibration --data DIR --model unet_camus``

``DIR`` holds ``camus224_train.npz`` and ``camus224_val.npz``. The factor of each phase is the geometric mean of true
over measured biplane volume (CAMUS rule) of ``num_patients`` training patients, evenly taken by name;
its interval is from a bootstrap over patients. No validation patient takes part in it. Four minutes on two CPU cores.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cardiojax import clinical, zoo
from cardiojax.data.arrays import ArraySource, camus_224, stack_examples
from cardiojax.evaluation.segmentation import ejections
from experiments.segmentation import accuracy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is calibrated.

    Attributes:
        data: Folder of the two archives.
        model: A name of the zoo or a weight file; one that takes two frames is shown both phases.
        num_patients: Training patients that are predicted.
        num_samples: Samples of the bootstrap.
    """

    data: Path
    model: str = "unet_camus"
    num_patients: int = 400
    num_samples: int = 2000


class Factor(NamedTuple):
    """What measured volumes are multiplied by.

    Attributes:
        value: The factor.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def fit_factor(
    measured: Float[np.ndarray, "n"], reference: Float[np.ndarray, "n"], *, num_samples: int = 2000, seed: int = 0
) -> Factor:
    """Geometric mean of the ratio of true to measured volume, with a bootstrap interval.

    Args:
        measured: Volumes of the network, one a patient; patients without one are left out.
        reference: True volumes.
        num_samples: Samples of patients.
        seed: Of the samples.

    Returns:
        The factor.
    """
    known = np.isfinite(measured) & np.isfinite(reference)
    logs = np.log(reference[known] / measured[known])
    draws = np.random.default_rng(seed).integers(0, len(logs), (num_samples, len(logs)))
    low, high = np.quantile(logs[draws].mean(1), (0.025, 0.975))
    return Factor(*map(float, np.exp([logs.mean(), low, high])))


def select_patients(source: ArraySource, num: int) -> ArraySource:
    """Frames of patients evenly taken in the order of their names.

    Args:
        source: All frames.
        num: Number of patients.

    Returns:
        Their frames.
    """
    arrays = stack_examples(source)
    patients = np.unique(arrays["patient"])
    chosen = patients[np.linspace(0, len(patients) - 1, min(num, len(patients))).round().astype(int)]
    is_chosen = np.isin(arrays["patient"], chosen)
    return ArraySource({key: values[is_chosen] for key, values in arrays.items()})


def agreement_row(title: str, volumes: Sequence[Any], reference: clinical.Ejection) -> str:
    """One line of the table.

    Args:
        title: First cell.
        volumes: Measured end-diastolic and end-systolic volumes.
        reference: True ones.

    Returns:
        Markdown.
    """
    end_diastolic, end_systolic = map(jnp.asarray, volumes)
    fraction = clinical.ejection_fraction(end_diastolic, end_systolic)
    cells = []
    for name, values in (("fraction", fraction), ("end_diastolic", end_diastolic), ("end_systolic", end_systolic)):
        agreement = clinical.agreement(values, jnp.asarray(getattr(reference, name)))
        cells.append(f"{agreement.correlation:.3f} / {agreement.mean_absolute_error:.1f} / {agreement.bias:+.1f}")
    return f"| {title} | {' | '.join(cells)} |\n"


def main(config: Config) -> str:
    """Learns the factors and scores the volumes with and without them.

    Args:
        config: What is calibrated.

    Returns:
        The table.
    """
    model, variables = zoo.load(config.model)
    apply = accuracy.probabilities(model, variables)

    def measure(source: ArraySource):
        images = list(accuracy.inputs(model, source).values())[-1]
        return ejections(accuracy.outlines(accuracy.predict(apply, images, batch_size=4)), source)

    training = measure(select_patients(camus_224(config.data / "camus224_train.npz"), config.num_patients))
    factors = [
        fit_factor(getattr(training.measured, n), getattr(training.reference, n), num_samples=config.num_samples)
        for n in ("end_diastolic", "end_systolic")
    ]
    validation = measure(camus_224(config.data / "camus224_val.npz"))
    text = "| r / error / bias | EF | EDV, ml | ESV, ml |\n" + "|---" * 4 + "|\n"
    for title, group in ((f"{len(training.patients)} training patients", training), ("validation", validation)):
        text += agreement_row(title, group.measured[:2], group.reference)
    calibrated = [values * factor.value for values, factor in zip(validation.measured, factors, strict=False)]
    text += agreement_row("validation, calibrated", calibrated, validation.reference)
    for name, factor in zip(("end-diastolic", "end-systolic"), factors, strict=True):
        text += f"\nFactor of the {name} volume: {factor.value:.3f} ({factor.low:.3f} to {factor.high:.3f})\n"
    print(text)
    return text


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
