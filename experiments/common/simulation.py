"""Pairs of frames of simulated patients."""

from typing import Any

import jax

from cardiojax.data import phantom


def simulate_pair(key: jax.Array, *, view: str, **options: Any) -> Any:
    """End-diastole and a second frame of a random patient.

    Args:
        key: Random key.
        view: ``"2CH"`` or ``"4CH"``.
        **options: Of `phantom.simulate`; ``frame_rate`` places the second frame.

    Returns:
        The loop.
    """
    patient_key, loop_key = jax.random.split(key)
    patient = phantom.sample_patient(patient_key)
    return phantom.simulate(
        loop_key,
        patient.heart,
        view=view,
        num_frames=2,
        ejection_fraction=patient.ejection_fraction,
        akinesia=patient.akinesia,
        **options,
    )
