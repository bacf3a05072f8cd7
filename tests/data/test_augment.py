"""Augmentation and counterexamples: what must hold whatever is drawn, and known answers of each part."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiojax.data.augment import (
    AugmentConfig,
    augment,
    blur,
    change_intensity,
    crop_sector,
    smooth_field,
    speckle_noise,
    warp,
)
from cardiojax.data.other_views import KINDS, add_outflow_tract, other_view, randomize_phases, shuffle
from tests.helpers.shapes import apical_view

OFF = AugmentConfig(
    rotation=0, scale=(1, 1), aspect=0, shift=0, gamma=(1, 1), contrast=(1, 1), brightness=0, attenuation=0,
    speckle=0, noise=0, sector=0, probability=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def example():
    rows, cols = np.mgrid[:48, :64]
    labels = np.select([np.hypot(rows - 20, cols - 30) < 8, np.hypot(rows - 20, cols - 30) < 13], [1, 2], 0)
    image = np.clip(0.2 + 0.6 * (labels == 2) + 0.1 * np.sin(rows / 3), 0, 1)
    return jnp.asarray(image, jnp.float32), jnp.asarray(labels, jnp.int32)


jitted = jax.jit(augment)


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=25, deadline=None)
def test_image_stays_in_range_and_labels_stay_labels(example, seed):
    result = jitted(jax.random.key(seed), *example)
    assert result.image.shape == example[0].shape
    assert result.labels.dtype == jnp.int32
    assert float(result.image.min()) >= 0
    assert float(result.image.max()) <= 1
    assert set(np.unique(result.labels)) <= {0, 1, 2}


def test_same_key_same_result_and_other_key_another(example):
    first, again, other = (jitted(jax.random.key(s), *example) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.image, again.image)
    assert float(jnp.abs(first.image - other.image).max()) > 0.01


def test_nothing_drawn_nothing_changed(example):
    image, labels = example
    warped = warp(jax.random.key(0), image, labels, config=OFF)
    np.testing.assert_allclose(warped.image, image, atol=1e-5)
    np.testing.assert_array_equal(warped.labels, labels)
    np.testing.assert_allclose(change_intensity(jax.random.key(0), image, config=OFF), image, atol=1e-5)


def test_image_and_mask_move_together(example):
    _, labels = example
    config = dataclasses.replace(OFF, rotation=40, scale=(0.7, 1.4), aspect=0.2, shift=0.1)
    picture = (labels > 0).astype(jnp.float32)
    for seed in range(5):
        warped = warp(jax.random.key(seed), picture, labels, config=config)
        disagreement = jnp.mean((warped.image > 0.5) != (warped.labels > 0))
        assert float(disagreement) < 0.01


def test_zoom_scales_the_area(example):
    _, labels = example
    config = dataclasses.replace(OFF, scale=(1.5, 1.5))
    warped = warp(jax.random.key(0), labels.astype(jnp.float32), labels, config=config)
    assert float((warped.labels == 1).sum() / (labels == 1).sum()) == pytest.approx(2.25, rel=0.08)


def test_black_stays_black_outside_the_sector(example):
    image = example[0].at[:, :10].set(0)
    for seed in range(4):
        changed = change_intensity(jax.random.key(seed), image)
        assert float(jnp.abs(changed[:, :10]).max()) == 0


def test_speckle_has_the_stated_strength():
    image = jnp.full((256, 256), 0.5)
    for seed in range(3):
        noisy = speckle_noise(jax.random.key(seed), image, sigma=0.3)
        assert float((noisy / image).mean()) == pytest.approx(1, abs=0.01)
        assert float((noisy / image).std()) <= 0.305


def test_blur_keeps_the_mean_and_lowers_the_variance():
    image = jax.random.uniform(jax.random.key(0), (64, 64))
    blurred = blur(jax.random.key(3), image, sigma=1.6)
    assert float(blurred[8:-8, 8:-8].mean()) == pytest.approx(float(image[8:-8, 8:-8].mean()), abs=0.02)
    assert float(blurred[8:-8, 8:-8].var()) < float(image[8:-8, 8:-8].var())


def test_sector_keeps_the_middle_and_cuts_the_upper_corners():
    image = jnp.ones((100, 100))
    for seed in range(5):
        cut = crop_sector(jax.random.key(seed), image)
        assert float(cut[60, 50]) == 1
        assert float(cut[0, 0]) == float(cut[0, -1]) == 0


def test_frames_that_share_a_key_differ_by_their_noise_alone(example):
    @jax.jit
    def pair(key, image, labels):
        return jax.vmap(lambda frame: augment(key, image, labels, frame=frame))(jnp.arange(2))

    for seed in range(4):
        augmented = pair(jax.random.key(seed), *example)
        np.testing.assert_array_equal(augmented.labels[0], augmented.labels[1])
        assert float(jnp.abs(augmented.image[0] - augmented.image[1]).mean()) < 0.1
    assert float(jnp.abs(augmented.image[0] - augmented.image[1]).max()) > 0


def test_size_resamples_the_whole_image(example):
    image, labels = example
    half = augment(
        jax.random.key(0),
        image,
        labels,
        config=dataclasses.replace(OFF, probability=0.0, speckle=0.0, sector=0.0),
        size=24,
    )
    np.testing.assert_allclose(half.image[0, 0], image[0, 0], atol=1e-6)
    np.testing.assert_allclose(half.image[-1, -1], image[-1, -1], atol=1e-5)
    rows, cols = (np.rint(np.linspace(0, n - 1, 24)).astype(int) for n in labels.shape)
    assert (half.labels == labels[rows][:, cols]).mean() > 0.99  # but for ties


def test_smooth_field_is_smooth_and_as_strong_as_stated():
    fields = jax.vmap(lambda key: smooth_field(key, (40, 80), sigma=0.1))(jax.random.split(jax.random.key(0), 200))
    rows, cols = jnp.square(fields).mean((0, 2, 3)) ** 0.5
    assert 0.5 * 0.1 / 3**0.5 * 40 < rows < 0.1 / 3**0.5 * 40  # uniform up to sigma; less between the points
    np.testing.assert_allclose(cols / rows, 2, rtol=0.15)
    steps = jnp.square(jnp.diff(fields[:, 0], axis=1)).mean() ** 0.5
    assert steps < 0.25 * rows  # the points are 8 rows apart


SIZE = 48


def heart():
    rows, cols = np.mgrid[:SIZE, :SIZE] / SIZE
    labels = apical_view(rows - 0.62, cols - 0.55, cavity=(0.4, 0.13), wall=(0.06, 0.06), atrium=(0.1, 0.12, 0.12))
    grey = np.choose(labels, [0.35, 0.08, 0.7, 0.1]).astype(np.float32)
    return jnp.asarray(grey + 0.02 * np.random.default_rng(0).random(grey.shape, np.float32)), jnp.asarray(labels)


IMAGE, LABELS = heart()
MAKE = jax.jit(other_view, static_argnames="kind")


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_each_kind_is_another_image(kind):
    for seed in range(3):
        made = np.asarray(MAKE(jax.random.key(seed), IMAGE, LABELS, kind=kind))
        assert made.shape == IMAGE.shape
        assert ((made >= 0) & (made <= 1)).all()
        assert np.abs(made - IMAGE).mean() > 0.01


def test_mirror_images_are_mirrored():
    """Left and right are told apart by the centre of the dark cavity, which lies to the right of the middle."""

    def side(image):
        cols = np.nonzero((image > 0.05) & (image < 0.15))[1]
        return np.median(cols) - (SIZE - 1) / 2

    assert side(np.asarray(IMAGE)) > 1
    assert np.median([side(np.asarray(MAKE(jax.random.key(s), IMAGE, LABELS, kind="mirrored"))) for s in range(5)]) < -1


def test_a_view_without_atrium_has_no_outflow_tract():
    made = MAKE(jax.random.key(0), IMAGE, jnp.zeros_like(LABELS), kind="outflow tract")
    assert np.isfinite(made).all()
    changed = np.asarray(add_outflow_tract(jax.random.key(0), IMAGE, LABELS)) != np.asarray(IMAGE)
    base = np.nonzero((np.asarray(LABELS) == 3).any(1))[0][0]
    assert changed[base:].mean() > 2 * changed[: base // 2].mean()


def test_tiles_and_spectrum_are_kept():
    shuffled = np.asarray(shuffle(jax.random.key(0), IMAGE))
    np.testing.assert_array_equal(np.sort(shuffled, None), np.sort(np.asarray(IMAGE), None))
    texture = np.asarray(randomize_phases(jax.random.key(0), IMAGE))
    assert texture.shape == IMAGE.shape
    assert np.isfinite(texture).all()


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be one of"):
        other_view(jax.random.key(0), IMAGE, LABELS, kind="sideways")
