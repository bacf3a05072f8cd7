"""Criteria of probability maps: the hard ones where all is certain, slopes against finite differences, and descent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cardiojax import anatomy

soft = jax.jit(anatomy.soft_criteria)


def damaged(heart):
    """Hearts of 48 x 48 pixels, whole and with defects that concern every criterion."""
    whole = heart()[::2, ::2]
    masks = [whole, heart(-20.0)[::2, ::2], np.zeros_like(whole), np.full_like(whole, 2)]
    for rows, cols, value in (
        (slice(16, 19), slice(23, 25), 0),  # a hole in the cavity
        (slice(31, 33), slice(22, 24), 0),  # one in the atrium
        (slice(2, 4), slice(2, 5), 1),  # parts of each structure
        (slice(2, 4), slice(2, 5), 2),
        (slice(44, 46), slice(2, 5), 3),
        (slice(18, 23), slice(8, 19), 0),  # a gap through the wall, and a thin place in it
        (slice(20, 22), slice(8, 18), 0),
        (slice(27, 31), slice(20, 28), 0),  # a gap between cavity and atrium
        (slice(14, 28), slice(8, 16), 1),  # cavity in place of wall
        (slice(28, 34), slice(10, 38), 2),  # wall in the atrium
    ):
        mask = whole.copy()
        mask[rows, cols] = value
        masks.append(mask)
    rng = np.random.default_rng(0)
    noisy = np.where(rng.uniform(size=(3, *whole.shape)) < 0.05, rng.integers(0, 4, (3, *whole.shape)), whole)
    return jnp.asarray(np.concatenate([masks, noisy]), jnp.int32)


def test_certain_maps_have_the_hard_criteria(heart):
    masks = damaged(heart)
    hard = np.asarray(jax.jit(anatomy.check)(masks).values)
    assert ((np.nan_to_num(hard) > 0).sum(0) > 0).all()  # each criterion is positive at least once
    np.testing.assert_allclose(soft(jax.nn.one_hot(masks, 4)), np.nan_to_num(hard), rtol=1e-5)


def blurred(mask, seed=0):
    """What a network gives: soft edges, a little uncertainty everywhere, no two numbers alike."""
    smooth = ndimage.gaussian_filter(np.eye(4)[mask], (0.7, 0.7, 0))
    mixed = smooth + np.random.default_rng(seed).uniform(0, 1e-2, smooth.shape)
    return jnp.asarray(mixed / mixed.sum(-1, keepdims=True))


def test_slopes_equal_finite_differences(heart):
    """Along the direction to another heart, in double precision, on all masks at once."""
    with jax.enable_x64():
        probs = jnp.stack([blurred(m, i) for i, m in enumerate(damaged(heart)[4:])])
        direction = jnp.stack([blurred(heart(10.0)[::2, ::2], 9)] * len(probs)) - probs
        values = jax.jit(lambda s: anatomy.soft_criteria(probs + s * direction))
        slopes = np.asarray(jax.jvp(values, (0.01,), (1.0,))[1])
        step = 1e-7
        differences = (values(0.01 + step) - values(0.01 - step)) / (2 * step)
    assert (np.abs(slopes).max(0) > 0).all()
    np.testing.assert_allclose(slopes, differences, rtol=1e-3, atol=1e-4)


@jax.jit
@jax.grad
def slope_of_excess(logits):
    low, high = anatomy.limits(anatomy.CAMUS)
    values = anatomy.soft_criteria(jax.nn.softmax(logits))
    return (jnp.maximum(values - high, 0) + jnp.maximum(low - values, 0)).sum()


@pytest.mark.parametrize(("case", "criterion"), [(4, 0), (6, 5), (9, 6)])
def test_descent_on_the_logits_mends_a_mask(heart, case, criterion):
    """A hole closes, a part vanishes, a wall that is cut through grows together."""
    mask = damaged(heart)[case]
    logits = jnp.log(jnp.asarray(blurred(np.asarray(mask)), jnp.float32))
    assert not bool(anatomy.check(logits.argmax(-1)).passes[criterion])
    for _ in range(120):
        slope = slope_of_excess(logits)
        logits = logits - 0.5 * slope / jnp.abs(slope).max()
        if bool(anatomy.check(logits.argmax(-1)).passes[criterion]):
            return
    pytest.fail("still failing after 120 steps")


def test_leading_axes_vmap_and_few_classes(heart):
    probs = jax.nn.one_hot(damaged(heart)[:4], 4)
    whole = soft(probs)
    np.testing.assert_allclose(soft(probs.reshape(2, 2, 48, 48, 4)).reshape(4, 12), whole)
    np.testing.assert_allclose(jax.jit(jax.vmap(anatomy.soft_criteria))(probs), whole)
    with pytest.raises(ValueError, match="4 classes"):
        anatomy.soft_criteria(probs[..., :3])
