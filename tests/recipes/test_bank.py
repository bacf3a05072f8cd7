"""A bank from masks to file: what is kept is valid, and a finished bank is not drawn again."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import anatomy, cli, train, zoo
from cardiojax.correction.anatomical import load_shapes
from cardiojax.data.bank import BankError
from cardiojax.recipes.bank import BuildBankConfig, build_bank
from cardiojax.recipes.densify import DensifyConfig


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Masks that the packaged autoencoder makes of codes of its bank."""
    shapes = load_shapes()
    codes = zoo.load_bank("cvae_camus")[:24].astype(np.float32)
    masks = np.asarray(jax.jit(lambda z: shapes.decode(z, 224, 224))(codes)).astype(np.uint8)
    folder = tmp_path_factory.mktemp("camus")
    num = len(masks)
    np.savez(
        folder / "camus224_train.npz",
        image=masks, label=masks, patient=np.full(num, "p"), view=np.full(num, "2CH"), phase=np.full(num, "ED"),
        spacing_rc_mm=np.ones((num, 2), np.float32),
    )  # fmt: skip
    return folder


def test_codes_of_a_bank_are_valid_and_packed_as_they_are(data, tmp_path, capsys):
    config = BuildBankConfig(
        data=data, out=tmp_path / "bank.zarr", packed=tmp_path / "bank.safetensors", bandwidth=0.3, sizes=(96,),
        draws=DensifyConfig(num_codes=24, block_size=16, blocks_per_round=1, chunk_size=8),
    )  # fmt: skip
    bank = build_bank(config)
    assert bank.codes.shape == (24, 16)
    assert bank.metadata["sizes"] == [96]
    shapes = load_shapes()
    assert jax.jit(anatomy.is_valid)(shapes.decode(jnp.asarray(bank.codes, jnp.float32), 96, 96)).all()
    np.testing.assert_array_equal(zoo.load_bank(config.packed), bank.codes)
    again = []
    build_bank(config, progress=again.append)
    assert again == []
    with pytest.raises(BankError, match="holds another bank"):
        build_bank(BuildBankConfig(data=data, out=config.out, bandwidth=0.2, draws=config.draws))

    command = ["densify", "--data", str(data), "--out", str(config.out), "--bandwidth", "0.3", "--sizes", "96"]
    command += ["--draws.num-codes", "24", "--draws.block-size", "16", "--draws.blocks-per-round", "1"]
    assert cli.main([*command, "--draws.chunk-size", "8"]) == 0
    assert "24 codes" in capsys.readouterr().out
    assert cli.main([*command, "--draws.chunk-size", "9"]) == 2
    assert "holds another bank" in capsys.readouterr().err


def test_a_bank_that_is_not_there_is_said_in_a_sentence(tmp_path):
    with pytest.raises(zoo.WeightsError, match="no such weight file"):
        zoo.load_bank(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(zoo.WeightsError, match="not a readable"):
        zoo.load_bank(tmp_path / "bad.safetensors")


def test_devices_that_cannot_share_the_draws_are_said_in_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"mesh\.tensor and mesh\.fully_sharded have no use"):
        BuildBankConfig(data=tmp_path, out=tmp_path / "bank.zarr", mesh=train.MeshConfig(fully_sharded=True))
    monkeypatch.setattr(train, "make_mesh", lambda config: types.SimpleNamespace(size=3))
    config = BuildBankConfig(data=tmp_path, out=tmp_path / "bank.zarr", mesh=train.MeshConfig(data=3))
    with pytest.raises(ValueError, match=r"blocks_per_round must be a multiple of the 3 devices, got 8"):
        build_bank(config)
