"""End-diastole and end-systole segmented together: whose label maps are measured, shown and corrected."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import clinical, models, report, zoo
from cardiojax.analysis import pairs, trust
from cardiojax.analysis import recording as analysis
from cardiojax.correction.anatomical import AnatomicalCorrection
from cardiojax.correction.temporal import TemporalCorrection
from cardiojax.measurement import motion

SIZE = 224
DIASTOLE, SYSTOLE = (0.46, 0.17), (0.34, 0.11)


def both(draw, diastole=DIASTOLE, systole=SYSTOLE):
    """A pair network that draws the same two hearts for each beat."""
    drawn = np.stack([draw.heart(SIZE, SIZE, semi) for semi in (diastole, systole)])
    return lambda images: np.eye(4, dtype=np.float32)[np.tile(drawn, (len(images) // 2, 1, 1))]


@pytest.fixture(scope="module")
def paired(recording, beating, draw):
    return analysis.analyze(recording, beating(), pair_segment=both(draw))


def test_volumes_are_those_of_the_masks_that_are_shown(paired, analyzed, draw):
    frames, numbers = paired.pair_frames, paired.measurements
    assert frames.tolist() == [analyzed.measurements.end_diastole, analyzed.measurements.end_systole]
    for frame, semi in zip(frames, (DIASTOLE, SYSTOLE), strict=True):
        assert (paired.labels[frame, 20:170, 40:220] == draw.heart(150, 180, semi)).mean() > 0.985
    cuts = jax.jit(clinical.disks)(jnp.asarray(paired.labels[frames]), jnp.array([0.8, 0.5]))
    volumes = clinical.single_plane_volume(cuts)
    np.testing.assert_allclose(numbers.lv_volume[frames], volumes, rtol=1e-5)
    assert numbers.ejection_fraction == pytest.approx(100 * float(1 - volumes[1] / volumes[0]), abs=1e-3)
    assert abs(numbers.ejection_fraction - analyzed.measurements.ejection_fraction) > 3
    values = report.to_dict(paired, config=analysis.AnalyzeConfig(), name="x")
    assert values["pair_model"] == "unet_pair_camus"
    assert values["pair_frames"] == frames.tolist()
    assert values["end_systolic_volume_ml"] == pytest.approx(float(volumes[1]), abs=1e-3)


def test_other_frames_and_the_motion_are_those_of_single_frames(paired, analyzed):
    others = np.setdiff1d(np.arange(len(analyzed.labels)), paired.pair_frames)
    np.testing.assert_array_equal(paired.labels[others], analyzed.labels[others])
    jax.tree.map(np.testing.assert_array_equal, paired.motion, analyzed.motion)
    assert report.to_dict(analyzed, config=analysis.AnalyzeConfig(), name="x")["pair_model"] is None


def test_a_pair_is_corrected_and_a_large_correction_withdraws_its_numbers(recording, beating, draw):
    right = draw.heart(200, 260, (0.4, 0.15))
    seen = []

    def corrector(masks, *, box):
        seen.append(len(masks))
        is_wrong = (masks == 1).sum((1, 2)) < 1000
        corrected = np.where(is_wrong[:, None, None], right, masks).astype(np.int32)
        share = (corrected != masks).mean((1, 2))
        return AnatomicalCorrection(masks, corrected, ~is_wrong, is_wrong | True, share, share)

    config = analysis.AnalyzeConfig(batch_size=3)  # odd: no pair is divided all the same
    segment = both(draw, systole=(0.1, 0.04))
    found = analysis.analyze(recording, beating(), config=config, pair_segment=segment, anatomical_corrector=corrector)
    frame = found.pair_frames[1]
    assert seen == [17, 2]
    np.testing.assert_array_equal(found.labels[frame], right)
    assert not found.correction.was_valid[frame]
    assert np.count_nonzero(found.correction.changed) == 1
    assert trust.EJECTION_FRACTION in found.withdrawn


@pytest.fixture
def jumping(recording, draw):
    """Ten frames, of which end-diastole is drawn too low; a model, and a corrector that draws it where it should be."""
    hearts = [draw.beat(t - 3, period=8) for t in range(10)]
    clock = iter([draw.heart(SIZE, SIZE, semi) for semi in hearts])

    def model(images):
        drawn = np.stack([next(clock) for _ in images])
        drawn[3:4] = np.roll(drawn[3:4], 30, axis=1)  # of the first call, which is of eight frames
        return np.eye(4, dtype=np.float32)[drawn]

    def corrector(masks, *, spacing, frame_time, box):
        right, moved = masks.copy(), np.arange(10) == 3
        right[3] = 0
        right[3, 20:170, 40:220] = draw.heart(150, 180, hearts[3])
        return TemporalCorrection(masks, right, moved, moved, 0.2 * moved, (1, 0))

    return recording._replace(frames=recording.frames[:10], frame_time=0.1), model, corrector


def test_a_corrected_frame_is_reported_also_if_the_pair_network_draws_it_again(jumping, draw, monkeypatch):
    def detect(*_, **__):
        raise AssertionError("the beats are known")

    monkeypatch.setattr(motion, "measure_timing", detect)
    shown, model, corrector = jumping
    found = analysis.analyze(shown, model, pair_segment=both(draw), temporal_corrector=corrector)
    assert 3 in found.pair_frames
    assert not found.temporal_correction.moved.any()
    assert not found.motion_before.is_consistent[3]
    (said,) = [sentence for sentence in found.warnings if "temporally inconsistent" in sentence]
    assert "; 1 were corrected, by at most 20 % of the heart's area, and none remains inconsistent" in said
    assert not any("interpolated over time" in sentence for sentence in found.warnings)  # the pair network drew it


def test_the_network_sees_each_phase_first_once(tmp_path):
    path = str(tmp_path / "pair.safetensors")
    model: Any = models.UNet(models.UNetConfig(features=(2, 3), patch=2, frames=2))
    params = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 2)))["params"]
    zoo.save(path, "unet", params, features=(2, 3), patch=2, frames=2)
    images = np.random.default_rng(0).random((4, 16, 16, 1), np.float32)
    found = pairs.make_pair_segment(path, size=16)(images)
    other = images[[1, 0, 3, 2]]
    expected = jax.nn.softmax(model.apply({"params": params}, jnp.concatenate([images, other], -1)).logits)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert pairs.choose_pair_model(path) == path  # it takes two frames


def test_a_network_of_single_frames_is_no_pair_network(tmp_path):
    path = str(tmp_path / "own.safetensors")
    params = models.UNet(models.UNetConfig(features=(2,))).init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]
    zoo.save(path, "unet", params, features=(2,))
    assert pairs.choose_pair_model(path) is None
    assert pairs.choose_pair_model(path, "unet_pair_camus") == "unet_pair_camus"
    with pytest.raises(ValueError, match="sees 1 frame, expected a network of two"):
        pairs.make_pair_segment(path, size=16)
