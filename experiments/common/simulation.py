"""Loops of simulated patients."""

from typing import Any

import jax

from cardiojax.data import phantom


def simulate_patient(key: jax.Array, *, view: str, num_frames: int = 2, **options: Any) -> Any:
    """End-diastole and the frames after it of a random patient.

    Args:
        key: Random key.
        view: ``"2CH"`` or ``"4CH"``.
        num_frames: Frames.
        **options: Of `phantom.simulate`; ``frame_rate`` places the later frames.

    Returns:
        The loop.
    """
    patient_key, loop_key = jax.random.split(key)
    patient = phantom.sample_patient(patient_key)
    return phantom.simulate(
        loop_key,
        patient.heart,
        view=view,
        num_frames=num_frames,
        ejection_fraction=patient.ejection_fraction,
        akinesia=patient.akinesia,
        **options,
    )
