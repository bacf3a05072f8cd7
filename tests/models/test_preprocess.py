"""What a network gets and what becomes of its answer: crop, grey range, grid, and back."""

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import models

BOX = (4, 36, 10, 58)


def test_the_network_sees_the_box_stretched_and_nothing_else():
    frames = np.random.default_rng(0).integers(40, 200, (3, 40, 60)).astype(np.uint8)
    frames[:, 0, 0], frames[:, 4, 10] = 255, 250
    mask = np.ones((40, 60), bool)
    mask[4, 10] = False  # the brightest pixel of the box
    keep = jnp.asarray(mask)

    def see(frames):
        return np.asarray(models.preprocess(jnp.asarray(frames), size=16, box=BOX, mask=keep))

    images = see(frames)
    assert images.shape == (3, 16, 16, 1)
    other = frames.copy()
    other[:, 0, 0] = other[:, 4, 10] = 0
    np.testing.assert_array_equal(images, see(other))
    np.testing.assert_allclose(images, see(frames.astype(np.float32) / 255), atol=1e-5)
    square = frames[:, :32, :32]
    low, high = (f(square, axis=(1, 2), keepdims=True).astype(np.float32) for f in (np.min, np.max))
    same_grid = models.preprocess(jnp.asarray(square), size=32)[..., 0]
    np.testing.assert_allclose(same_grid, (square - low) / (high - low), atol=1e-6)
    assert not np.asarray(models.preprocess(jnp.full((1, 8, 8), 7, jnp.uint8), size=4)).any()


def test_labels_lie_where_the_network_saw_them():
    drawn = np.zeros((1, 16, 16), int)
    drawn[0, :8] = 2
    probs = jax.nn.one_hot(drawn, 4)
    labels = np.asarray(models.postprocess(probs, height=40, width=60, box=BOX))
    expected = np.zeros((1, 40, 60), int)
    expected[0, 4:20, 10:58] = 2
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.int32
    jitted = jax.jit(models.postprocess, static_argnames=("height", "width", "box"))
    np.testing.assert_array_equal(jitted(probs, height=40, width=60, box=BOX), expected)
    np.testing.assert_array_equal(models.postprocess(probs, height=16, width=16), jnp.asarray(drawn))
