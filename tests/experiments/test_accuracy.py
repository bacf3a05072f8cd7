"""The training on pairs of frames, its archive, and the scores of a network that sees both phases."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import models, zoo
from experiments.common import pairs
from experiments.segmentation import accuracy, train_camus_gpu, volume_calibration


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    names = [(f"patient{p:04d}", v, h) for p in range(10) for v in ("2CH", "4CH") for h in ("ED", "ES")]
    labels = np.zeros((len(names), 32, 32), np.uint8)
    labels[:, 4:24, 6:26], labels[:, 8:24, 10:22], labels[:, 24:30, 10:22] = 2, 1, 3
    patient, view, phase = map(np.array, zip(*names, strict=True))
    spacing = np.ones((len(names), 2), np.float32)
    metadata = {"patient": patient, "view": view, "phase": phase, "spacing_rc_mm": spacing}
    return pairs.make_frames(rng.integers(0, 255, labels.shape).astype(np.uint8), labels, metadata)


def test_pairs_join_the_phases_of_one_view(frames):
    for i, j in frames.pairs:
        assert [frames.metadata[key][i] == frames.metadata[key][j] for key in ("patient", "view")] == [True, True]
        assert (frames.metadata["phase"][i], frames.metadata["phase"][j]) == ("ED", "ES")
    assert len(frames.pairs) == 20
    shown = accuracy.with_other_phase(frames.source())
    np.testing.assert_array_equal(shown[frames.pairs[:, 0], ..., 1], frames.images[frames.pairs[:, 1]])


def test_folds_share_no_patient_and_cover_all(frames):
    held_out = [pairs.split_fold(frames, fold) for fold in range(5)]
    assert all(not set(a.metadata["patient"]) & set(b.metadata["patient"]) for a, b in held_out)
    assert sorted(p for _, b in held_out for p in set(b.metadata["patient"])) == sorted(set(frames.metadata["patient"]))
    halves = [accuracy.half_of(frames.metadata["patient"], half) for half in (0, 1)]
    assert (halves[0] ^ halves[1]).all()


def test_the_archive_is_lossless(frames, tmp_path):
    for split in ("train", "val"):
        arrays = {"image": frames.images, "label": frames.labels, **frames.metadata}
        np.savez(tmp_path / f"camus224_{split}.npz", **arrays)
    pairs.pack(tmp_path, tmp_path / "frames.zip")
    result = pairs.read(tmp_path / "frames.zip", "val")
    np.testing.assert_array_equal(result.images, frames.images)
    np.testing.assert_array_equal(result.labels, frames.labels)
    np.testing.assert_array_equal(result.pairs, frames.pairs)
    np.testing.assert_array_equal(result.metadata["patient"], frames.metadata["patient"])


def test_two_steps_train_and_the_weights_load(frames, tmp_path):
    config = train_camus_gpu.Config(
        data=tmp_path, out=tmp_path, features=(4,), patch=2, num_pairs=1, size=16, num_steps=2, steps_per_call=1
    )
    state = train_camus_gpu.train(config, frames)
    assert int(state.step) == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    path = tmp_path / "weights.safetensors"
    zoo.save(path, "unet", state.ema, file_dtype="float16", **config.overrides)
    model: Any
    model, variables = zoo.load(path)
    assert model.config == models.UNetConfig(features=(4,), patch=2, frames=2)
    assert model.apply(variables, jnp.zeros((1, 8, 8, 2))).logits.shape == (1, 8, 8, 4)


def test_a_training_starts_from_the_deeper_levels_of_a_network_with_one_more(frames, tmp_path):
    path = tmp_path / "larger.safetensors"
    larger = models.UNet(models.UNetConfig(features=(2, 4, 6, 8))).init(jax.random.key(3), jnp.zeros((1, 16, 16, 1)))
    zoo.save(path, "unet", larger["params"], features=(2, 4, 6, 8))
    options = {"features": (4, 6, 8), "patch": 2, "num_pairs": 1, "size": 16, "num_steps": 2, "steps_per_call": 1}
    config = train_camus_gpu.Config(data=tmp_path, out=tmp_path, init=str(path), **options)
    model = models.UNet(models.UNetConfig(**config.overrides))
    start = train_camus_gpu.initial_params(config, model)
    assert jax.tree.map(jnp.shape, start) == jax.tree.map(
        lambda leaf: leaf.shape, jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 2)))["params"]
    )
    names = {"down1_conv0": "down2_conv0", "down2_conv1": "down3_conv1", "up1": "up2", "up0_conv0": "up1_conv0"}
    for name, deeper in names.items():
        assert jax.tree.all(jax.tree.map(np.array_equal, start[name], larger["params"][deeper]))
    assert start["down0_conv0"]["Conv_0"]["kernel"].shape == (3, 3, 8, 4)  # random
    for features, message in (((3, 5, 7), "no layer of the shapes"), ((2, 2, 4, 6, 8), "has 4 levels")):
        other = dataclasses.replace(config, features=features)
        with pytest.raises(ValueError, match=message):
            train_camus_gpu.initial_params(other, models.UNet(models.UNetConfig(**other.overrides)))


def test_the_last_steps_have_a_size_of_their_own(frames, tmp_path, monkeypatch):
    sizes, draw = [], train_camus_gpu.draw_batch

    def record(*arguments, size, **options):
        sizes.append(size)
        return draw(*arguments, size=size, **options)

    monkeypatch.setattr(train_camus_gpu, "draw_batch", record)
    options = {"features": (4,), "patch": 2, "num_pairs": 1, "size": 16, "final_size": 24, "steps_per_call": 1}
    config = train_camus_gpu.Config(data=tmp_path, out=tmp_path, num_steps=4, **options)
    assert int(train_camus_gpu.train(config, frames).step) == 4
    assert sizes == [16, 24]  # traced once each
    with pytest.raises(ValueError, match="a final size needs the number of steps"):
        train_camus_gpu.Config(data=tmp_path, out=tmp_path, **options)


def test_a_volume_factor_undoes_a_constant_ratio():
    rng = np.random.default_rng(0)
    reference = rng.uniform(40, 150, 60)
    noise = np.exp(rng.normal(0, 0.1, 60))
    factor = volume_calibration.fit_factor(np.append(reference / 1.1 * noise, np.nan), np.append(reference, 80.0))
    assert factor.low < 1.1 < factor.high
    np.testing.assert_allclose(factor.high - factor.low, 1.1 * 2 * 1.96 * 0.1 / 60**0.5, rtol=0.3)
    assert volume_calibration.fit_factor(reference / 1.1, reference)[:2] == pytest.approx((1.1, 1.1))


def test_patients_of_the_calibration_are_whole(frames):
    chosen = volume_calibration.select_patients(frames.source(), 3)
    names = [str(chosen[i]["patient"]) for i in range(len(chosen))]
    assert sorted(set(names)) == ["patient0000", "patient0004", "patient0009"]
    assert len(names) == 12


def test_a_method_chosen_on_one_half_is_reported_on_the_other():
    halves = {"a": (4.0, 7.0), "b": (5.0, 6.0)}
    table = {f"{name}, half {half}": {"ef_mae": x} for name, values in halves.items() for half, x in enumerate(values)}
    found = accuracy.cross_fit(table | {f"{name}, all": {"ef_mae": 5.5} for name in halves})
    assert "chosen on half 0: a, ef_mae 7.00 on half 1" in found
    assert "chosen on half 1: b, ef_mae 5.00 on half 0" in found
