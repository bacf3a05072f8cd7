"""Overlap: hand-counted masks and properties, and each structure of label maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cardiojax import metrics
from cardiojax.metrics.structures import require_masks

masks = hnp.arrays(bool, (2, 5, 6))


def test_hand_counted():
    a = jnp.zeros((4, 4), bool).at[:2].set(True)
    b = jnp.zeros((4, 4), bool).at[1:3].set(True)
    assert float(metrics.dice(a, b)) == 0.5
    assert float(metrics.jaccard(a, b)) == np.float32(1 / 3)
    empty = jnp.zeros((4, 4), bool)
    assert float(metrics.dice(empty, empty)) == float(metrics.jaccard(empty, empty)) == 1
    assert float(metrics.dice(a, empty)) == float(metrics.jaccard(a, empty)) == 0


@given(masks, masks)
def test_properties(a, b):
    a, b = jnp.asarray(a), jnp.asarray(b)
    dice, jaccard = metrics.dice(a, b), metrics.jaccard(a, b)
    np.testing.assert_array_equal(dice, metrics.dice(b, a))
    np.testing.assert_allclose(dice, 2 * jaccard / (1 + jaccard), rtol=1e-6)
    np.testing.assert_array_equal(metrics.dice(a, a), 1)
    np.testing.assert_array_equal(jax.jit(jax.vmap(metrics.dice))(a, b), dice)


LABELS = hnp.arrays(np.int32, (2, 5, 6), elements=st.integers(0, 3))
STRUCTURES = (1, (1, 2), 3)


def members(labels, structure):
    return jnp.asarray(np.isin(labels, structure))


@given(LABELS, LABELS)
@settings(max_examples=20)
def test_classes_equal_their_masks(a, b):
    for per_class, one in ((metrics.dice_per_class, metrics.dice), (metrics.jaccard_per_class, metrics.jaccard)):
        scores = per_class(jnp.asarray(a), jnp.asarray(b), structures=STRUCTURES)
        expected = np.stack([one(members(a, s), members(b, s)) for s in STRUCTURES], -1)
        np.testing.assert_array_equal(scores, expected)


def test_swapped_structures_have_no_overlap():
    """Bitwise operations on the label maps themselves would give a Dice above 0."""
    labels = jnp.zeros((6, 6), jnp.int32).at[:3].set(1).at[3:].set(2)
    swapped = jnp.where(labels == 1, 2, 1)
    np.testing.assert_array_equal(metrics.dice_per_class(labels, swapped, structures=(1, 2, (1, 2))), [0, 0, 1])


@pytest.mark.parametrize("wrong", [np.int32, np.uint8, np.float32])
def test_masks_must_be_boolean_and_labels_integers(wrong):
    mask, other = jnp.ones((4, 4), bool), jnp.ones((4, 4), wrong)
    distances = ("hausdorff", "hausdorff95", "mean_absolute_distance", "average_symmetric_surface_distance")
    for name in ("dice", "jaccard", "is_missed", *distances):
        spacing = ((1.0, 1.0),) if name in distances else ()
        for pair in ((mask, other), (other, mask)):
            with pytest.raises(TypeError):
                getattr(metrics, name)(*pair, *spacing)
            with pytest.raises(TypeError):
                jax.jit(getattr(metrics, name))(*pair, *spacing)
    with pytest.raises(TypeError):
        metrics.dice_per_class(mask, mask)
    with pytest.raises(ValueError, match="at least one label"):
        metrics.class_masks(other.astype(jnp.int32), ())


def test_the_message_names_the_remedy():
    """Without the shape checks of the tests, which come first."""
    with pytest.raises(TypeError, match="prediction must be a boolean mask of one structure, got int32"):
        require_masks(jnp.ones((4, 4), jnp.int32), jnp.ones((4, 4), bool))


def test_misses_are_counted_and_charged():
    full, empty = jnp.ones((1, 3, 4), bool), jnp.zeros((1, 3, 4), bool)
    prediction, target = jnp.concatenate([full, empty, empty, full]), jnp.concatenate([full, full, empty, empty])
    missed = metrics.is_missed(prediction, target)
    dice = metrics.summarize(metrics.dice(prediction, target), missed)
    assert (float(dice.mean), int(dice.count), int(dice.num_missed)) == (0.5, 4, 2)
    left_out = metrics.summarize(metrics.hausdorff(prediction, target, (1.0, 1.0)), missed)
    assert (float(left_out.mean), int(left_out.count), int(left_out.num_missed)) == (0, 1, 2)
    charged = metrics.summarize(metrics.hausdorff(prediction, target, (2.0, 2.0), charge_missed=True), missed)
    assert (float(charged.mean), int(charged.count), int(charged.num_missed)) == (pytest.approx(20 / 3), 3, 2)
    nothing = metrics.summarize(jnp.full((2, 3), jnp.nan), jnp.zeros((2, 3), bool))
    assert np.isnan(nothing.mean).all()
    assert not nothing.count.any()
