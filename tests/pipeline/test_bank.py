"""A bank from masks to file: what is kept is plausible, and a finished bank is not drawn again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import anatomy, cli, zoo
from cardiojax.data.bank import BankError
from cardiojax.pipeline.bank import BuildBankConfig, build_bank
from cardiojax.pipeline.densify import DensifyConfig
from cardiojax.pipeline.plausible import load_shapes


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


def test_codes_of_a_bank_are_plausible_on_every_size_and_packed_as_they_are(data, tmp_path):
    config = BuildBankConfig(
        data=data, out=tmp_path / "bank.zarr", packed=tmp_path / "bank.safetensors", bandwidth=0.3, sizes=(224, 256),
        draws=DensifyConfig(num_codes=24, block_size=16, blocks_per_round=1, chunk_size=8),
    )  # fmt: skip
    bank = build_bank(config)
    assert bank.codes.shape == (24, 16)
    assert bank.facts["sizes"] == [224, 256]
    shapes = load_shapes()
    for size in (224, 256):
        assert anatomy.is_valid(shapes.decode(jnp.asarray(bank.codes, jnp.float32), size, size)).all()
    np.testing.assert_array_equal(zoo.load_bank(config.packed), bank.codes)
    again = []
    build_bank(config, progress=again.append)
    assert again == []
    with pytest.raises(BankError, match="other facts"):
        build_bank(BuildBankConfig(data=data, out=config.out, bandwidth=0.2, draws=config.draws))


def test_command(data, tmp_path, capsys):
    options = [
        "--draws.num-codes",
        "6",
        "--draws.block-size",
        "8",
        "--draws.blocks-per-round",
        "1",
        "--bandwidth",
        "0.3",
    ]
    assert cli.main(["densify", "--data", str(data), "--out", str(tmp_path / "b.zarr"), *options]) == 0
    assert "6 codes" in capsys.readouterr().out
    assert cli.main(["densify", "--data", str(data), "--out", str(tmp_path / "b.zarr"), "--draws.num-codes", "5"]) == 2
    assert "other facts" in capsys.readouterr().err


def test_a_bank_that_is_not_there_is_said_in_a_sentence(tmp_path):
    with pytest.raises(zoo.WeightsError, match="no such weight file"):
        zoo.load_bank(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(zoo.WeightsError, match="not a readable"):
        zoo.load_bank(tmp_path / "bad.safetensors")
