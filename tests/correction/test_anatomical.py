"""Anatomical correction: valid label maps are bit-identical, all others become valid, on any grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiojax import anatomy, zoo
from cardiojax.correction import anatomical

SIZE = 96


def is_valid(masks):
    """Four at a time, as the corrector does, so that one compiled check serves all tests."""
    blocks = [np.resize(masks[i : i + 4], (4, *masks.shape[1:])) for i in range(0, len(masks), 4)]
    return np.concatenate([jax.jit(anatomy.is_valid)(jnp.asarray(block)) for block in blocks])[: len(masks)]


def decode(corrector, codes, size):
    return np.asarray(corrector.shapes.decode(jnp.asarray(codes, jnp.float32), size, size))


@pytest.fixture(scope="module")
def corrector():
    return anatomical.make_anatomical_corrector(num_neighbours=1, num_bisections=4)


@pytest.fixture(scope="module")
def hearts(corrector):
    """Valid label maps: some codes of the bank, decoded."""
    masks = decode(corrector, zoo.load_bank("cvae_camus")[:64], SIZE)
    return masks[is_valid(masks)]


def test_valid_label_maps_are_bit_identical(corrector, hearts):
    corrected = corrector(hearts[:5])
    np.testing.assert_array_equal(corrected.labels, hearts[:5])
    assert corrected.was_valid.all()
    assert corrected.valid.all()
    assert (corrected.distance == 0).all()
    assert (corrected.changed == 0).all()


def test_a_hole_is_mended_and_the_rest_stays_near(corrector, hearts):
    mask = hearts[0].copy()
    rows, cols = np.nonzero(mask == 1)
    row, col = int(rows.mean()), int(cols.mean())
    mask[row - 2 : row + 3, col - 2 : col + 3] = 0
    corrected = corrector(np.stack([hearts[1], mask]))
    assert corrected.was_valid.tolist() == [True, False]
    assert corrected.valid.all()
    assert is_valid(corrected.labels).all()
    np.testing.assert_array_equal(corrected.before[1], mask)
    assert 0 < corrected.changed[1] < 0.25
    assert (corrected.labels[1] == hearts[0]).mean() > 0.95


@settings(max_examples=6)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["noise", "blank", "one class", "two hearts", "stripes"]))
def test_whatever_comes_in_something_valid_goes_out(corrector, hearts, seed, kind):
    rng = np.random.default_rng(seed)
    drawn = hearts[rng.integers(len(hearts), size=2)]
    mask = {
        "noise": rng.integers(0, 4, (SIZE, SIZE)),
        "blank": np.zeros((SIZE, SIZE), int),
        "one class": np.full((SIZE, SIZE), rng.integers(1, 4)),
        "two hearts": np.where(drawn[0] > 0, drawn[0], np.roll(drawn[1], rng.integers(SIZE), axis=1)),
        "stripes": np.where(np.arange(SIZE) % 7 == 0, 0, drawn[0]),
    }[kind]
    corrected = corrector(mask[None])
    assert corrected.valid[0]
    assert is_valid(corrected.labels)[0]


def test_the_whole_image_is_checked_where_the_model_sees_a_part(corrector, hearts):
    codes, box = zoo.load_bank("cvae_camus")[:8], (10, 90, 12, 92)
    image = np.zeros((8, SIZE, SIZE), np.int32)
    image[:, 10:90, 12:92] = decode(corrector, codes, 80)
    image = image[is_valid(image)][:1]
    image[0, 5, 5] = 1  # outside the part: the autoencoder does not see it, the criteria do
    corrected = corrector(image, box=box)
    assert not corrected.was_valid[0]
    assert corrected.valid[0]
    assert corrected.labels[0, 5, 5] == 0
    assert (corrected.labels[0] == image[0]).mean() > 0.97


def test_more_frames_than_a_batch_and_none_at_all(corrector, hearts):
    masks = np.repeat(hearts[:1], 9, axis=0)
    masks[::2, 0, 0] = 2
    corrected = corrector(masks)
    np.testing.assert_array_equal(corrected.was_valid, np.arange(9) % 2 == 1)
    assert corrected.valid.all()
    np.testing.assert_array_equal(corrected.labels[::2], np.repeat(corrected.labels[:1], 5, axis=0))
    assert corrector(hearts[:0]).labels.shape == (0, SIZE, SIZE)


def test_codes_of_the_packaged_bank_are_valid(corrector):
    codes = zoo.load_bank("cvae_camus")
    assert codes.dtype == np.float16
    assert codes.nbytes < 2e6
    assert is_valid(decode(corrector, codes[:: len(codes) // 40], 224)).all()


def test_predictions_of_a_plain_network_become_valid_at_little_cost(golden_dir, data_dir):
    with np.load(golden_dir / "torch_unet_pred_val.npz") as archive:
        masks = archive["label"][:40].astype(np.int32)
    with np.load(data_dir / "camus_224" / "camus224_val.npz") as archive:
        truth = archive["label"][:40]
    corrected = anatomical.make_anatomical_corrector()(masks)
    assert corrected.valid.all()
    assert is_valid(corrected.labels).all()
    np.testing.assert_array_equal(corrected.labels[corrected.was_valid], masks[corrected.was_valid])

    def dice(masks):
        both = ((masks == 1) & (truth == 1)).sum((1, 2))
        return (2 * both / ((masks == 1).sum((1, 2)) + (truth == 1).sum((1, 2)))).mean()

    assert dice(corrected.labels) > dice(masks) - 0.01
