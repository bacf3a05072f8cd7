"""Anatomical correction, on shapes simple enough to know the answer: discs that must have a radius of at least five."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import latent

GRID = jnp.stack(jnp.meshgrid(jnp.arange(32.0), jnp.arange(32.0), indexing="ij"), -1)
KNOWN = (jnp.linalg.norm(GRID - 16, axis=-1) <= 8).astype(jnp.int32)


def decode(codes, centres=16.0):
    """The code is the radius and something that does not matter."""
    distance = jnp.linalg.norm(GRID - jnp.asarray(centres)[..., None, None, None], axis=-1)
    return (distance <= codes[:, 0, None, None]).astype(jnp.int32)


def encode(masks):
    """Radius from the area, and the place of the disc, which ``decode`` gets back."""
    area = masks.sum((-2, -1))
    rows = (masks * GRID[..., 0]).sum((-2, -1)) / area
    return jnp.stack([jnp.sqrt(area / jnp.pi), 0 * area], -1), rows


def is_valid(masks):
    return masks.sum((-2, -1)) >= decode(jnp.array([[5.0, 0.0]])).sum()


BANK = jnp.array([[12.0, 0.0], [6.0, 0.0], [7.0, 3.0], [9.0, 0.0]])


@functools.partial(jax.jit, static_argnames=("num_bisections", "num_neighbours", "num_extra_neighbours"))
def fix(codes, bank=BANK, fallbacks=None, **options):
    return latent.correct(codes, bank, decode=decode, is_valid=is_valid, fallbacks=fallbacks, **options)


def test_moves_as_little_as_needed():
    codes = jnp.array([[1.0, 0.0], [3.0, 0.0], [8.0, 1.0]])
    found = fix(codes, num_neighbours=1, num_bisections=10)
    assert bool(found.valid.all())
    assert bool(is_valid(decode(found.codes)).all())
    np.testing.assert_allclose(found.codes[:2, 0], 5.0, atol=5 / 2**10)
    np.testing.assert_array_equal(found.codes[2], codes[2])
    np.testing.assert_array_equal(found.masks, decode(found.codes))
    np.testing.assert_allclose(found.fraction, [4 / 5, 2 / 3, 0], atol=2**-9)
    np.testing.assert_allclose(found.distance, jnp.linalg.norm(found.codes - codes, axis=-1), rtol=1e-6)
    assert found.target.tolist() == [1, 1, -1]


def test_inputs_given_as_valid_stay():
    codes = jnp.array([[1.0, 0.0], [3.0, 0.0]])
    found = fix(codes, was_valid=jnp.array([True, False]))
    np.testing.assert_array_equal(found.codes[0], codes[0])
    assert found.distance[0] == 0 < found.distance[1]


def test_a_neighbour_that_is_not_valid_is_skipped_and_fallbacks_come_last():
    bank = jnp.array([[2.0, 0.0], [9.0, 0.0], [3.0, 0.0]])
    codes = jnp.array([[1.0, 0.0]])
    assert fix(codes, bank).target.tolist() == [1]
    assert not bool(fix(codes, bank, num_neighbours=2).valid[0])
    found = fix(codes, bank, jnp.array([[1.5, 0.0], [30.0, 0.0]]), num_neighbours=2)
    assert bool(found.valid[0])
    assert found.target.tolist() == [4]


def test_farther_neighbours_are_for_codes_that_have_nothing_yet():
    bank = jnp.array([[2.0, 0.0], [9.0, 0.0], [3.0, 0.0], [5.5, 40.0]])
    codes = jnp.array([[1.0, 0.0], [8.0, 0.0], [4.6, 30.0]])
    found = fix(codes, bank, num_neighbours=2, num_extra_neighbours=2)
    assert bool(found.valid.all())
    assert found.target.tolist() == [1, -1, 3]


@pytest.mark.parametrize("wrong", [jnp.nan, jnp.inf])
def test_codes_that_are_not_finite_are_not_valid_and_no_targets(wrong):
    codes = jnp.array([[3.0, 0.0], [wrong, 0.0], [8.0, 0.0]])
    bank = BANK.at[1].set(wrong)
    found = fix(codes, bank)
    assert found.valid.tolist() == [True, False, True]
    assert found.target[0] != 1
    assert found.target[1:].tolist() == [-1, -1]
    nothing_left = fix(codes[:1], jnp.full((4, 2), wrong))
    assert not bool(nothing_left.valid[0])


def test_masks_are_unchanged_or_valid():
    radii, centres = jnp.array([8.0, 3.0, 4.0]), jnp.array([10.0, 12.0, 20.0])
    masks = jnp.stack([decode(r[None, None], c)[0] for r, c in zip(radii, centres, strict=True)])
    masks = jnp.concatenate([masks, jnp.zeros((1, 32, 32), jnp.int32)])  # the code of an empty mask is nan
    options = {"encode": encode, "decode": decode, "is_valid": is_valid, "fallback_mask": KNOWN}
    found = jax.jit(lambda m: latent.correct_masks(m, BANK, **options))(masks)
    assert found.was_valid.tolist() == [True, False, False, False]
    assert bool(found.valid.all())
    assert bool(is_valid(found.masks).all())
    np.testing.assert_array_equal(found.masks[0], masks[0])
    overlap = (masks[1] * found.masks[1]).sum() / masks[1].sum()
    assert overlap > 0.9  # the disc was put back where it had been


def test_one_program_checks_or_corrects():
    traced = []

    def counted(masks):
        traced.append(masks.shape)
        return is_valid(masks)

    options = {"encode": encode, "decode": decode, "is_valid": counted}
    program = jax.jit(lambda m, only: latent.correct_masks(m, BANK, check_only=only, **options))
    masks = jnp.stack([KNOWN, decode(jnp.array([[3.0, 0.0]]))[0]])
    checked, moved = program(masks, True), program(masks, False)
    assert len(traced) == 1  # the criteria take most of the compilation
    np.testing.assert_array_equal(checked.masks, masks)
    assert checked.was_valid.tolist() == checked.valid.tolist() == [True, False]
    assert moved.valid.tolist() == [True, True]
    assert 0 < moved.distance[1] < jnp.inf == checked.distance[1]


def test_the_fallback_mask_is_the_last_resort():
    options = {"encode": encode, "is_valid": is_valid, "fallback_mask": KNOWN}
    found = latent.correct_masks(
        jnp.zeros((2, 32, 32), jnp.int32), BANK, decode=lambda z, _: jnp.zeros((len(z), 32, 32), jnp.int32), **options
    )
    np.testing.assert_array_equal(found.masks, jnp.stack([KNOWN, KNOWN]))
    assert bool(found.valid.all())
    assert bool(jnp.isinf(found.distance).all())


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    function = jax.jit(lambda z: latent.correct(z, BANK, decode=decode, is_valid=is_valid))
    jax.export.export(function, platforms=[platform])(jax.ShapeDtypeStruct((3, 2), jnp.float32))
