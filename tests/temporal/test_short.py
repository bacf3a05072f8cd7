"""Sequences with little in them: no frame, fewer than a second difference takes, none known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import clinical, temporal

LIMITS = temporal.Limits(jnp.array([[0.0, 1.0]] * 2), jnp.array([0.02, 0.03]))
METHODS = {
    "nearest": lambda x: temporal.nearest_consistent(x, *LIMITS),
    "original": lambda x: temporal.regularize(x, *LIMITS, rule="original").series,
    "minimal": lambda x: temporal.regularize(x, *LIMITS, rule="minimal", periodic=True).series,
    "smooth": lambda x: temporal.smooth(x.T, jnp.full(2, 8.0)).T,
}


@pytest.mark.parametrize("name", METHODS)
def test_one_and_two_frames_are_as_finite_as_they_came(name):
    method = jax.jit(METHODS[name])
    for num_frames in (1, 2):
        series = jnp.linspace(0.2, 0.8, 2 * num_frames).reshape(num_frames, 2)
        result = method(series)
        assert bool(jnp.isfinite(result).all())
        if name in ("nearest", "minimal"):  # nothing can be inconsistent, so nothing moves
            np.testing.assert_allclose(result, series, atol=1e-6)
        assert bool(jnp.isnan(method(series * jnp.nan)).all())
    with pytest.raises(ValueError, match="at least one frame"):
        METHODS[name](jnp.zeros((0, 2)))


def test_consistency_and_beats_of_short_sequences():
    for num_frames in (0, 1, 2):
        result = temporal.consistency(jnp.ones((num_frames, 2)), *LIMITS)
        assert bool(result.is_sequence_consistent)
    masks = jnp.ones((1, 4, 4), jnp.int32)
    np.testing.assert_array_equal(temporal.gaussian_filter(masks, sigma=3.0), masks)
    assert not bool(clinical.detect_beats(jnp.ones(1)).valid)
    with pytest.raises(ValueError, match="at least one frame"):
        clinical.detect_beats(jnp.ones(0))
    with pytest.raises(ValueError, match="at least 3 frames, got 2"):
        temporal.calibrate_limits(jnp.ones((5, 2, 2)))
