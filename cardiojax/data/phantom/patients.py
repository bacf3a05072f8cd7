"""Whom a simulated dataset consists of."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from cardiojax.data.phantom.motion import Akinesia
from cardiojax.data.phantom.scanner import VENDORS
from cardiojax.data.phantom.shape import Heart, sample_heart
from cardiojax.labels import MEASURED_VIEWS
from cardiojax.validation import check_seed

#: Ranges of ejection fraction (percent), dilation, hypertrophy and severity of akinesia, by the name of the pathology.
PATHOLOGIES: dict[str, tuple[tuple[float, float], ...]] = {
    "normal": ((50, 68), (0.97, 1.03), (0.95, 1.05), (0, 0)),
    "dilated": ((15, 38), (1.08, 1.25), (0.9, 1.0), (0, 0)),
    "hypertrophic": ((52, 70), (0.85, 0.95), (1.25, 1.5), (0, 0)),
    "akinetic": ((28, 48), (1.0, 1.1), (0.9, 1.05), (0.7, 1.0)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhantomSet:
    """A simulated dataset; the same values give the same data.

    Attributes:
        num_patients: Patients; the last fifth are the validation split.
        vendor: A name of `VENDORS`.
        views: ``"2CH"``, ``"4CH"`` or both.
        size: Height and width of the images.
        num_frames: Frames of a loop, which is one beat from end-diastole to end-diastole.
        abnormal: Share of patients with a pathology.
        seed: Seed of everything.
    """

    num_patients: int = 100
    vendor: str = "ge_like"
    views: tuple[str, ...] = MEASURED_VIEWS
    size: int = 224
    num_frames: int = 40
    abnormal: float = 0.5
    seed: int = 0

    def __post_init__(self):
        if self.vendor not in VENDORS:
            raise ValueError(f"vendor must be one of {', '.join(VENDORS)}, got {self.vendor!r}")
        if not self.views or set(self.views) - set(MEASURED_VIEWS):
            raise ValueError(f"views must be some of {', '.join(MEASURED_VIEWS)}, got {self.views}")
        if self.num_patients < 2 or self.size < 8 or self.num_frames < 2 or not 0 <= self.abnormal <= 1:
            raise ValueError("a phantom needs 2 patients, 8 pixels, 2 frames and a share of abnormal ones in [0, 1]")
        check_seed(self)

    @property
    def metadata(self) -> dict[str, Any]:
        """What is kept with the dataset, as JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @property
    def name(self) -> str:
        """A name that no other dataset has."""
        views = "_".join(view.lower() for view in self.views)
        counts = f"{self.num_patients}p_{self.num_frames}f_{self.size}px_{round(100 * self.abnormal)}abnormal"
        return f"{self.vendor}_{views}_{counts}_seed{self.seed}"


class Patient(NamedTuple):
    """A heart and how it beats.

    Attributes:
        heart: Its contours.
        pathology: Index into `PATHOLOGIES`.
        ejection_fraction: Percent.
        heart_rate: Beats a minute.
        akinesia: The part of the wall that does not move.
    """

    heart: Heart
    pathology: Int[Array, ""]
    ejection_fraction: Float[Array, ""]
    heart_rate: Float[Array, ""]
    akinesia: Akinesia


def sample_patient(key: Key[Array, ""], *, abnormal: float = 0.5) -> Patient:
    """Draws a patient.

    Args:
        key: Random key.
        abnormal: Probability of a pathology; each is as likely.

    Returns:
        The patient.
    """
    kind_key, range_key, heart_key, place_key, rate_key = jax.random.split(key, 5)
    num_kinds = len(PATHOLOGIES) - 1
    pathology = jax.random.choice(
        kind_key, len(PATHOLOGIES), p=jnp.array([1 - abnormal] + [abnormal / num_kinds] * num_kinds)
    )
    low, high = jnp.moveaxis(jnp.array(list(PATHOLOGIES.values()), jnp.float32)[pathology], -1, 0)
    fraction, dilation, hypertrophy, severity = low + (high - low) * jax.random.uniform(range_key, (4,))
    position, extent = jax.random.uniform(place_key, (2,), minval=jnp.array([0.2, 0.09]), maxval=jnp.array([0.8, 0.16]))
    heart = sample_heart(heart_key, ejection_fraction=fraction, dilation=dilation, hypertrophy=hypertrophy)
    rate = jax.random.uniform(rate_key, minval=52.0, maxval=88.0)
    return Patient(heart, pathology, fraction, rate, Akinesia(position, extent, severity))
