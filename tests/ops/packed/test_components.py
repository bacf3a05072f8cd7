"""Connected regions against SciPy, number by number."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cardiojax import ops
from cardiojax.ops.packed import bits
from cardiojax.ops.packed.components import remove_small_bits

STRUCTURE = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}
# one, exactly one and more than one word a row
masks = st.sampled_from([7, 45]).flatmap(lambda w: hnp.arrays(bool, (2, 9, w)))
connectivities = pytest.mark.parametrize("connectivity", [4, 8])


@connectivities
@given(mask=masks)
@settings(max_examples=60)
def test_label_equals_scipy(connectivity, mask):
    got = jax.jit(lambda m: ops.label(m, connectivity=connectivity))(jnp.asarray(mask))
    for g, m in zip(got, mask, strict=True):
        np.testing.assert_array_equal(g, ndimage.label(m, STRUCTURE[connectivity])[0])


@connectivities
@pytest.mark.parametrize("width", [20, 32, 70, 256, 1100])  # the last takes two words of carries
@pytest.mark.parametrize("density", [0.4, 0.6, 0.9, 0.999])
def test_flood_equals_scipy(connectivity, width, density):
    rng = np.random.default_rng(width)
    mask, seeds = rng.random((3, 40, width)) < density, rng.random((3, 40, width)) > 0.99
    got = ops.flood_fill(jnp.asarray(seeds), jnp.asarray(mask), connectivity=connectivity)
    for g, s, m in zip(got, seeds, mask, strict=True):
        np.testing.assert_array_equal(g, ndimage.binary_propagation(s & m, STRUCTURE[connectivity], mask=m))


def test_flood_through_a_maze():
    """A spiral needs many sweeps."""
    maze = np.zeros((41, 41), bool)
    for i in range(0, 20, 4):
        maze[i, i : 41 - i] = maze[i : 41 - i, 40 - i] = maze[40 - i, i : 41 - i] = True
        maze[i + 4 : 41 - i, i] = True
        maze[i + 4, i : i + 5] = True
    seed = np.zeros_like(maze)
    seed[0, 0] = True
    expected = ndimage.binary_propagation(seed, mask=maze)
    assert expected.sum() > 300
    np.testing.assert_array_equal(ops.flood_fill(jnp.asarray(seed), jnp.asarray(maze)), expected)


@connectivities
@given(mask=masks)
@settings(max_examples=30)
def test_largest_component_is_the_first_of_the_largest(connectivity, mask):
    got = jax.jit(lambda m: ops.largest_component(m, connectivity=connectivity))(jnp.asarray(mask))
    for g, m in zip(got, mask, strict=True):
        numbers, n = ndimage.label(m, STRUCTURE[connectivity])
        sizes = np.bincount(numbers.ravel())[1:]
        np.testing.assert_array_equal(g, numbers == 1 + sizes.argmax() if n else np.zeros_like(m))


@given(mask=masks)
@settings(max_examples=30)
def test_fill_holes_equals_scipy(mask):
    got = jax.jit(ops.fill_holes)(jnp.asarray(mask))
    for g, m in zip(got, mask, strict=True):
        np.testing.assert_array_equal(g, ndimage.binary_fill_holes(m))
    eight = ops.fill_holes(jnp.asarray(mask), connectivity=8)
    for g, m in zip(eight, mask, strict=True):
        np.testing.assert_array_equal(g, ndimage.binary_fill_holes(m, STRUCTURE[8]))


@given(mask=hnp.arrays(bool, (4, 5, 70), elements=st.integers(0, 9).map(bool)))
def test_a_single_run_top_proves_one_region(mask):
    proved = jax.jit(bits.is_single_run_top)(bits.pack(jnp.asarray(mask)))
    for p, m in zip(proved, mask, strict=True):
        tops = sum(
            not above[run].any()
            for above, row in zip(np.vstack([np.zeros_like(m[:1]), m[:-1]]), m, strict=True)
            for run in (ndimage.label(row)[0] == k for k in range(1, ndimage.label(row)[1] + 1))
        )
        assert p == (tops == 1)
        assert not p or ndimage.label(m)[1] == 1


def test_labels_are_packed_in_one_pass():
    labels = jnp.asarray(np.random.default_rng(0).integers(-1, 6, (3, 9, 45)))
    for k, packed in enumerate(bits.pack_labels(labels), 1):
        np.testing.assert_array_equal(packed, bits.pack(labels == k))


@settings(max_examples=40)
@given(density=st.floats(0.4, 0.95), seed=st.integers(0, 2**32 - 1), min_size=st.sampled_from([3, 9, 16, 30.5]))
def test_small_regions_go_as_with_scipy(density, seed, min_size):
    masks = np.random.default_rng(seed).random((3, 21, 40)) < density
    kept = jax.jit(remove_small_bits, static_argnums=1)(bits.pack(jnp.asarray(masks)), min_size)
    for mask, ours in zip(masks, np.asarray(bits.unpack(kept, 40)), strict=True):
        regions, _ = ndimage.label(mask)
        sizes = np.bincount(regions.ravel())
        np.testing.assert_array_equal(ours, mask & (sizes >= min_size)[regions])


def test_leading_axes_and_vmap():
    mask = jnp.asarray(np.random.default_rng(0).random((2, 3, 12, 40)) > 0.4)
    together = ops.label(mask)
    np.testing.assert_array_equal(jax.vmap(ops.label)(mask), together)
    np.testing.assert_array_equal(ops.label(mask[1, 2]), together[1, 2])


def test_refuses_other_connectivities():
    with pytest.raises(ValueError, match="4 or 8, got 6"):
        ops.label(jnp.ones((3, 3), bool), connectivity=6)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    jax.export.export(jax.jit(ops.largest_component), platforms=[platform])(
        jax.ShapeDtypeStruct((4, 32, 40), jnp.bool_)
    )
