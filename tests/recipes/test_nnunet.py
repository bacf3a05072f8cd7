"""``cardiojax train nnunet``: it runs at any size, goes on from another size, resumes, and refuses volumes."""

import dataclasses

import numpy as np
import pytest

from cardiojax import models, train, zoo
from cardiojax.recipes import segmentation
from cardiojax.recipes.nnunet import TrainNNUNetConfig, train_nnunet

PLAN = dataclasses.replace(
    models.NNUNET_PRESETS["nnunet_small_2d"],
    features=(4, 4, 4),
    kernels=((3, 3),) * 3,
    strides=((1, 1), (2, 2), (2, 2)),
    blocks=(1, 1, 1),
    decoder_convs=1,
)


def write_frames(folder):
    rng = np.random.default_rng(0)
    labels = np.zeros((8, 224, 224), np.uint8)
    labels[:, 40:140, 60:160], labels[:, 60:130, 80:140], labels[:, 150:200, 70:150] = 2, 1, 3
    images = (60 * labels + rng.integers(0, 40, labels.shape)).astype(np.uint8)
    metadata = {
        "patient": np.array(["p"] * 8),
        "view": np.array(["2CH", "4CH"] * 4),
        "phase": np.array(["ED", "ED", "ES", "ES"] * 2),
        "spacing_rc_mm": np.ones((8, 2), np.float32),
    }
    for split in ("train", "val"):
        np.savez(folder / f"camus224_{split}.npz", image=images, label=labels, **metadata)


def test_it_learns_small_and_goes_on_where_it_was(tmp_path):
    write_frames(tmp_path)
    PLAN.save(tmp_path / "plan.json")
    loop = train.LoopConfig(num_steps=4, log_every=1, eval_every=2)
    config = TrainNNUNetConfig(
        data=tmp_path,
        out=tmp_path / "run",
        size=32,
        batch_size=2,
        plan=tmp_path / "plan.json",
        adamw=train.OptimizerConfig(learning_rate=0.02, warmup_steps=1),
        loop=loop,
    )
    result = train_nnunet(config)
    losses = [row["loss"] for row in train.read_log(tmp_path / "run") if "loss" in row]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    again = train_nnunet(config)
    assert int(again.state.step) == 4
    assert again.best_score == result.best_score
    further = dataclasses.replace(
        config,
        out=tmp_path / "further",
        init=tmp_path / "run" / "weights.safetensors",
        optimizer="sgd",
        loop=dataclasses.replace(loop, num_steps=1),
    )
    train_nnunet(further)
    model, variables = zoo.load(tmp_path / "further" / "weights.safetensors")
    assert model.config == PLAN
    assert variables["params"]["head_1"]["kernel"].shape == (1, 1, 4, 4)


def test_it_refuses_volumes(tmp_path):
    with pytest.raises(ValueError, match="two dimensions"):
        train_nnunet(TrainNNUNetConfig(data=tmp_path, out=tmp_path / "run", preset="nnunet_3d"))


def test_native_layers_train_alike_and_on_one_device(tmp_path, kernels, monkeypatch):
    monkeypatch.setenv("CARDIOJAX_CACHE", str(kernels.parents[2] / "cache"))
    write_frames(tmp_path)
    dataclasses.replace(PLAN, features=(16, 16, 16)).save(tmp_path / "plan.json")
    config = TrainNNUNetConfig(
        data=tmp_path,
        out=tmp_path / "native",
        size=32,
        batch_size=2,
        implementation="native",
        plan=tmp_path / "plan.json",
        loop=train.LoopConfig(num_steps=2, log_every=1, eval_every=2),
    )
    train_nnunet(config)
    train_nnunet(dataclasses.replace(config, out=tmp_path / "xla", implementation="xla"))
    native, plain = (
        [row["loss"] for row in train.read_log(tmp_path / name) if "loss" in row] for name in ("native", "xla")
    )
    np.testing.assert_allclose(native, plain, rtol=1e-4)
    with pytest.raises(ValueError, match="device"):
        train_nnunet(dataclasses.replace(config, mesh=train.MeshConfig(data=2)))
    half = tmp_path / "half.json"
    dataclasses.replace(PLAN, dtype="bfloat16").save(half)
    with pytest.raises(ValueError, match="computes in float32, not in bfloat16"):
        train_nnunet(dataclasses.replace(config, plan=half))


def test_on_accelerators_the_native_layers_are_those_of_xla(tmp_path, monkeypatch):
    config = TrainNNUNetConfig(data=tmp_path, out=tmp_path / "run", implementation="native")
    monkeypatch.setattr(segmentation.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(segmentation.runtime, "build_kernels", lambda: pytest.fail("built"))
    assert segmentation._implementation(config, PLAN) == "xla"
