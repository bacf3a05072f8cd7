"""The view of a recording: known answers on real data, refusal with a reason, and an answer to any input."""

import numpy as np
import pytest

from cardiojax import data
from cardiojax.analysis.grid import make_grid
from cardiojax.analysis.recording import AnalyzeConfig
from cardiojax.analysis.sector import colour_reason, coloured_share, find_sector
from cardiojax.analysis.view import make_image_classifier, make_view_classifier
from cardiojax.analysis.warnings import recording_findings
from cardiojax.data.arrays import camus_224, stack_examples
from cardiojax.labels import VIEWS

RNG = np.random.default_rng(0)


def recording(frames, **fields):
    return data.Recording(np.asarray(frames, np.float32), None, None, "made here", **fields)


def fan(height=200, width=240):
    rows, cols = np.mgrid[:height, :width] - np.array([0, width // 2])[:, None, None]
    return (np.abs(np.arctan2(cols, rows + 1)) < 0.65) & (np.hypot(rows, cols) < 0.95 * height)


@pytest.fixture(scope="module")
def classify():
    return make_view_classifier()


@pytest.fixture(scope="module")
def classify_images():
    return make_image_classifier()


@pytest.fixture(scope="module")
def clips(data_dir):
    """Every fifth clip of the validation patients: images ``[2, h, w, 1]`` and the view."""
    examples = stack_examples(camus_224(data_dir / "camus_224" / "camus224_val.npz"))
    keys = np.char.add(examples["patient"], examples["view"])
    return [
        (examples["image"][keys == key][..., None].astype(np.float32) / 255, str(examples["view"][keys == key][0]))
        for key in np.unique(keys)[::5]
    ]


def test_the_example_is_a_four_chamber_view(classify):
    estimate = classify(data.read(data.example_path()))
    assert (estimate.view, estimate.reason) == ("4CH", None)
    assert estimate.probs.shape == (3,)
    assert estimate.probs.sum() == pytest.approx(1, abs=1e-5)
    assert VIEWS[estimate.probs.argmax()] == "4CH"


def test_views_of_validation_patients_are_recognised(classify_images, clips):
    answers = [(classify_images(images).view, view) for images, view in clips]
    assert sum(answer == view for answer, view in answers) >= 0.85 * len(answers)
    assert sum(answer not in (view, "other") for answer, view in answers) <= 1


def test_displays_that_are_turned_are_refused_with_that_reason(classify_images, clips):
    own = [images for images, view in clips if view == "4CH"]
    for turn, words in ((lambda x: x[:, ::-1], "upside down"), (lambda x: x[:, :, ::-1], "mirrored")):
        estimates = [classify_images(turn(images)) for images in own]
        assert sum(e.view == "other" for e in estimates) >= 0.8 * len(own)
        assert sum(words in (e.reason or "") for e in estimates) >= 0.6 * len(own)


@pytest.mark.parametrize(
    "frames",
    [
        RNG.random((4, 200, 240)),
        RNG.rayleigh(0.3, (4, 200, 240)).clip(0, 1) * fan(),
        np.stack([fan() * 0.5] * 2),
        np.sin(np.arange(240) / 5) * 0.5 * np.ones((1, 200, 1)) + 0.5,
    ],
    ids=["noise", "noise in a fan", "an even fan", "stripes"],
)
def test_what_is_no_view_is_refused(classify, frames):
    estimate = classify(recording(frames))
    assert estimate.view == "other"
    assert estimate.reason.endswith(".")


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 32, 32), (2, 8, 300), (3, 40, 9)])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_blank_frames_of_any_size_are_refused(classify, shape, value):
    estimate = classify(recording(np.full(shape, value)))
    assert (estimate.view, estimate.reason) == ("other", "The frames show no image.")
    assert np.isfinite(estimate.probs).all()


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 5, 7), (9, 16, 16)])
def test_tiny_frames_get_an_answer(classify, shape):
    estimate = classify(recording(RNG.random(shape)))
    assert estimate.view in VIEWS
    assert np.isfinite(estimate.probs).all()
    assert (estimate.reason is None) == (estimate.view != "other")


def test_blank_frames_do_not_vote(classify_images, clips):
    images = clips[0][0]
    with_blank = np.concatenate([images, np.zeros_like(images)])
    np.testing.assert_allclose(classify_images(with_blank).probs, classify_images(images).probs, atol=1e-5)
    assert classify_images(with_blank).view == classify_images(images).view


def test_colour_doppler_is_refused_and_thin_lines_are_not(classify):
    example = data.read(data.example_path())
    shape = example.frames.shape[1:]
    jet, line = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    jet[100:130, 140:170] = 0.5
    line[170:172], line[:, 150] = 1.0, 1.0  # an ECG and a beam
    outside = np.zeros(shape, np.float32)
    outside[:20] = 1.0
    estimate = classify(example._replace(coloured=jet))
    assert estimate.view == "other"
    assert "colour Doppler" in estimate.reason
    assert classify(example._replace(coloured=line + outside)).view == "4CH"
    sector = find_sector(example.frames, regions=example.regions)
    assert coloured_share(jet, sector) == pytest.approx(900 / sector.mask.sum(), rel=0.01)
    assert coloured_share(line, sector) == 0
    assert colour_reason(None, sector) is None
    for max_size in (640, 100):
        grid = make_grid(sector, shape, max_size=max_size)
        findings = recording_findings(example._replace(coloured=jet), grid.reduce_sector(sector), grid)
        assert any("colour Doppler" in finding.reason for finding in findings)


def test_the_grid_of_the_segmentation_does_not_change_the_answer(classify):
    recording = data.read(data.example_path())
    other = make_view_classifier(config=AnalyzeConfig(size=64))
    np.testing.assert_array_equal(other(recording).probs, classify(recording).probs)
