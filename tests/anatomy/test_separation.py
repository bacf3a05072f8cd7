"""The border between myocardium and left atrium."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cardiojax import anatomy
from cardiojax.data.arrays import camus_224, stack_examples

_FRONTIER = anatomy.NAMES.index("frontier_ratio_between_myo_and_atrium")


@given(labels=hnp.arrays(np.int32, (2, 9, 11), elements={"min_value": 0, "max_value": 4}))
@settings(max_examples=60)
def test_only_myocardium_beside_the_atrium_and_not_beside_the_cavity_is_replaced(labels):
    square = np.ones((3, 3))
    near = [np.stack([ndimage.binary_dilation(m == k, square) for m in labels]) for k in (1, 3)]
    replaced = (labels == 2) & near[1] & ~near[0]
    np.testing.assert_array_equal(anatomy.separate_atrium(jnp.asarray(labels)), np.where(replaced, 0, labels))


def test_a_long_contact_is_left_as_it_is(heart):
    labels = jnp.asarray(heart(5.0), jnp.int32)
    labels = jnp.where((labels == 0) & (jnp.roll(labels, 1, 0) == 2), 3, labels)  # atrium along the wall
    contact = float(anatomy.check(labels).values[_FRONTIER])
    assert contact > 0.4
    np.testing.assert_array_equal(anatomy.separate_atrium(labels, max_contact=contact - 0.01), labels)
    np.testing.assert_array_equal(
        anatomy.separate_atrium(labels, max_contact=contact + 0.01), anatomy.separate_atrium(labels)
    )


def test_real_outlines_meet_the_criterion_afterwards(data_dir):
    """Of the reference masks, 15 of 200 do not: the experts' outlines touch there."""
    labels = stack_examples(camus_224(data_dir / "camus_224" / "camus224_val.npz"))["label"].astype(np.int32)
    separated = np.asarray(anatomy.separate_atrium(jnp.asarray(labels)))
    before, after = (
        np.asarray(anatomy.check(jnp.asarray(masks)).passes)[:, _FRONTIER] for masks in (labels, separated)
    )
    assert (~before).sum() == 15
    assert after.all()
    assert (labels != separated).mean() < 2e-4
    np.testing.assert_array_equal(np.isin(labels, (1, 3)), np.isin(separated, (1, 3)))
