"""Resampling of a box that is chosen at run time is `jax.image.resize` of a crop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import ops

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("box", [(0, 12, 0, 17), (2, 11, 3, 5), (5, 6, 0, 17)])
@pytest.mark.parametrize("size", [(4, 4), (20, 9), (12, 30)])
def test_a_box_is_resampled_as_a_crop_is(box, size):
    images = jnp.asarray(RNG.normal(size=(2, 12, 17, 3)), jnp.float32)
    top, bottom, left, right = box
    expected = jax.image.resize(images[:, top:bottom, left:right], (2, *size, 3), "linear")
    found = ops.resample_from_box(images, jnp.array(box), height=size[0], width=size[1])
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("box", [(0, 12, 0, 17), (2, 11, 3, 5), (5, 12, 1, 17)])
@pytest.mark.parametrize("size", [(3, 3), (8, 20)])
def test_images_are_resampled_to_a_box_as_to_its_size(box, size):
    images = jnp.asarray(RNG.normal(size=(2, *size, 3)), jnp.float32)
    top, bottom, left, right = box
    expected = jax.image.resize(images, (2, bottom - top, right - left, 3), "linear")
    found = ops.resample_to_box(images, jnp.array(box), height=12, width=17)
    np.testing.assert_allclose(found[:, top:bottom, left:right], expected, atol=2e-5)
    inside = ops.inside_box(jnp.array(box), height=12, width=17)
    assert int(inside.sum()) == (bottom - top) * (right - left)
    assert inside[top:bottom, left:right].all()


@pytest.mark.parametrize("num", [1, 11])
def test_labels_in_a_box_are_those_of_its_size(num):
    logits = jnp.asarray(RNG.normal(size=(num, 6, 5, 4)), jnp.float32)
    expected = np.zeros((num, 20, 24), int)
    expected[:, 3:19, 2:23] = ops.resize_argmax(logits, height=16, width=21)
    found = ops.resize_argmax_to_box(logits, jnp.array([3, 19, 2, 23]), height=20, width=24)
    np.testing.assert_array_equal(found, expected)


def test_one_program_serves_every_box():
    images, traces = jnp.ones((1, 8, 8, 1)), []

    @jax.jit
    def resample(images, box):
        traces.append(None)
        return ops.resample_from_box(images, box, height=4, width=4)

    for box in ([0, 8, 0, 8], [1, 5, 2, 8]):
        resample(images, jnp.array(box))
    assert len(traces) == 1
