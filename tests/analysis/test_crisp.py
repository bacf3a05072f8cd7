"""Uncertainty by matching training shapes: sizes, batches, quality, and the sentences of the report."""

import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import analysis, data, report, uncertainty
from cardiojax.analysis import crisp

SIDE = 28


def disk(radius, size):
    rows, cols = np.mgrid[:size, :size] / size - 0.5
    return (np.hypot(rows, cols) < radius).astype(np.uint8)


def encode(images):
    """A code that encodes the brightness."""
    angle = images.mean((1, 2, 3)) * np.pi / 2
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)


@pytest.fixture(scope="module")
def matcher():
    """Brighter images go with larger disks."""
    light = np.linspace(0.1, 0.9, 30)
    masks = np.stack([disk(0.1 + 0.3 * b, SIDE) for b in light])
    codes = encode(jnp.asarray(np.broadcast_to(light[:, None, None, None], (30, 2, 2, 1)), jnp.float32))
    return crisp.Matcher(uncertainty.ShapeBank(codes, jnp.asarray(masks)), encode, lambda masks: masks)


@pytest.fixture(scope="module")
def estimator(matcher):
    return crisp.CrispEstimator(matcher, [0.0, 1.0, 2.0], num_samples=5, batch_size=2)


def frame(light, radius, size=56):
    image = np.full((size, size, 1), light, np.float32)
    image[:2] = 0.0
    return image, np.eye(4, dtype=np.float32)[disk(radius, size)]


def test_what_disagrees_with_the_matching_shapes_is_uncertain(estimator):
    images, probs = (np.stack(x) for x in zip(frame(0.5, 0.25), frame(0.5, 0.4), frame(0.3, 0.19), strict=True))
    estimate = estimator(images, probs)
    assert estimate.map.shape == (3, SIDE, SIDE)
    ring = 1 - (0.25 / 0.4) ** 2  # of the second prediction, that no matching shape has
    assert estimate.quality[1] == pytest.approx(100 - 50 * ring, abs=4)
    assert estimate.quality[[0, 2]].min() > 85
    assert estimate.map[1][disk(0.35, SIDE).astype(bool) & ~disk(0.3, SIDE).astype(bool)].min() > 0.8
    alone = estimator(images[1:2], probs[1:2])
    np.testing.assert_allclose(alone.map[0], estimate.map[1], atol=1e-5)


def test_a_black_frame_has_no_quality(estimator):
    estimate = estimator(np.zeros((1, 56, 56, 1), np.float32), frame(0.5, 0.25)[1][None])
    np.testing.assert_array_equal(estimate.map, 1)
    assert estimate.quality[0] == 0


def test_the_interval_of_the_ejection_fraction_is_that_of_pairs_of_matching_shapes(matcher):
    volumes = np.linspace(40, 160, 30)
    volumes[12] = np.nan  # a shape without a long axis
    estimator = crisp.CrispEstimator(matcher, [0.0, 1.0], bound=0.5, num_samples=5)
    estimator.__dict__["_volumes"] = jnp.asarray(volumes, jnp.float32)  # drawn disks have no axis to cut them along
    images = np.stack([frame(light, 0.25)[0] for light in (0.8, 0.4)])
    estimate = uncertainty.retrieve_shapes(encode(jnp.asarray(images)), matcher.bank, num_samples=5)
    indices, weights = map(np.asarray, estimate)
    rows = [
        (100 * (1 - volumes[j] / volumes[i]), u * v)
        for i, u in zip(indices[0], weights[0], strict=True)
        for j, v in zip(indices[1], weights[1], strict=True)
        if np.isfinite(volumes[i]) and np.isfinite(volumes[j])
    ]
    assert len(rows) < 25
    fractions, share = np.array(rows).T
    mean = np.average(fractions, weights=share)
    spread = np.sqrt(np.average((fractions - mean) ** 2, weights=share))
    assert estimator.ejection_spread(*images) == pytest.approx(spread, rel=1e-4)
    assert estimator.ejection_interval(*images, 60.0) == pytest.approx((60 - spread / 2, 60 + spread / 2), rel=1e-4)
    assert estimator.ejection_interval(*images, 99.9)[1] == 100
    assert estimator.ejection_interval(*images, 0.1)[0] == 0
    without_bound = crisp.CrispEstimator(matcher, [0.0, 1.0], num_samples=5)
    without_bound.__dict__["_volumes"] = estimator._volumes
    assert np.isnan(without_bound.ejection_interval(*images, 60.0)).all()


def test_the_report_says_which_frames_not_to_trust():
    frames = np.zeros((6, 80, 80), np.float32)
    frames[:, 10:70, 10:70] = 0.5
    frames[:, 20, 20] = 1.0
    recording = data.Recording(frames, (1.0, 1.0), 0.1, "drawn")
    probs = np.eye(4, dtype=np.float32)[disk(0.3, 224)]

    class Strict:
        quality = iter([np.array([60.0, 3.0, 80.0, 0.0, 1.0, 5.0])])

        def __call__(self, images, probs):
            return crisp.UncertaintyEstimate(np.full((len(images), SIDE, SIDE), 0.5, np.float32), next(self.quality))

        def ejection_interval(self, end_diastole, end_systole, fraction):
            raise AssertionError("nothing beats")

    estimate = analysis.analyze(
        recording, lambda images: np.stack([probs] * len(images)), uncertainty_estimator=Strict()
    )
    np.testing.assert_array_equal(estimate.quality, [60, 3, 80, 0, 1, 5])
    assert estimate.uncertainty[0, 40, 40] == 0.5
    assert estimate.uncertainty[0, 2, 2] == 0
    sentence = next(w for w in estimate.warnings if "trusted" in w)
    assert "frames 1 and 3 to 4 should not" in sentence
    values = report.to_dict(estimate, config=analysis.AnalyzeConfig(), name="x")
    assert values["frame_quality_percent"][1] == 3
    assert values["ejection_fraction_interval_percent"] is None  # nothing beats
    values = report.to_dict(
        estimate._replace(ejection_interval=(51.0, 72.5)), config=analysis.AnalyzeConfig(), name="x"
    )
    assert values["ejection_fraction_interval_percent"] == [51.0, 72.5]
