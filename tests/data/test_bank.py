"""Banks on disk: what is missing or was changed is an error that names the bank, never a code."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import latent
from cardiojax.data.bank import BankError, BankProgress, BankWriter, read_bank

RNG = np.random.default_rng(0)
CODES = RNG.normal(size=(25, 4)).astype(np.float16)
DENSITY = latent.fit_parzen(jnp.asarray(RNG.normal(size=(12, 4)), jnp.float32), bandwidth=0.5)
OPTIONS = {"num_codes": 25, "chunk_size": 10, "dtype": "float16", "density": DENSITY, "metadata": {"model": "none"}}


def write(folder, codes=CODES, num_chunks=3):
    writer = BankWriter(folder, **OPTIONS)
    for index in range(num_chunks):
        chunk = codes[10 * index : 10 * (index + 1)]
        writer.write(chunk, BankProgress(10 * index + len(chunk), 100, 50, index, 0, 0))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "bank.zarr")


def test_round_trip_and_resume(tmp_path, folder):
    bank = read_bank(folder)
    np.testing.assert_array_equal(bank.codes, CODES)
    np.testing.assert_array_equal(bank.density.codes, DENSITY.codes)
    part = write(tmp_path / "part.zarr", num_chunks=1)
    assert read_bank(part).codes.shape == (10, 4)
    writer = BankWriter(part, **OPTIONS)
    assert writer.progress.num_codes == 10
    writer.write(CODES[10:20], BankProgress(20))
    np.testing.assert_array_equal(read_bank(part).codes, CODES[:20])
    with pytest.raises(BankError, match="holds another bank"):
        BankWriter(part, **OPTIONS | {"metadata": {"model": "other"}})


def test_a_chunk_may_be_larger_than_the_bank(tmp_path):
    writer = BankWriter(tmp_path / "bank.zarr", **OPTIONS | {"chunk_size": 65_536})
    writer.write(CODES, BankProgress(25))
    np.testing.assert_array_equal(read_bank(tmp_path / "bank.zarr").codes, CODES)


def test_codes_of_zero_are_codes(tmp_path):
    np.testing.assert_array_equal(read_bank(write(tmp_path / "zero.zarr", 0 * CODES)).codes, 0 * CODES)


def chunks(folder):
    return sorted(p for p in (folder / "codes").rglob("*") if p.is_file() and p.name != "zarr.json")


@pytest.mark.parametrize("index", range(3))
def test_a_missing_or_empty_chunk_names_the_bank(folder, index):
    path = chunks(folder)[index]
    content = path.read_bytes()
    for damage in (path.unlink, lambda: path.write_bytes(b""), lambda: path.write_bytes(content[:-1])):
        damage()
        with pytest.raises(BankError, match=r"bank\.zarr holds a damaged bank"):
            read_bank(folder)
        with pytest.raises(BankError, match="damaged"):  # nor is it resumed
            BankWriter(folder, **OPTIONS)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_bank(folder).codes, CODES)


def test_progress_that_was_never_written_is_an_error(folder):
    text = (folder / "zarr.json").read_text()
    (folder / "zarr.json").write_text(text.replace('"num_codes": 25', '"num_codes": 20'))
    with pytest.raises(BankError, match="attributes were changed"):
        read_bank(folder)


def test_damage_anywhere_is_an_error_or_without_effect(folder, tmp_path):
    rng = np.random.default_rng(1)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    assert len(files) == 9
    copy = tmp_path / "copy.zarr"
    refused = harmless = 0
    for trial in range(63):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        path = copy / files[trial % len(files)].relative_to(folder)
        content = bytearray(path.read_bytes())
        content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        try:
            bank = read_bank(copy)
        except BankError as error:
            refused += str(error).startswith(f"{copy} holds") and "\n" not in str(error)
        else:
            np.testing.assert_array_equal(bank.codes, CODES)
            np.testing.assert_array_equal(bank.density.codes, DENSITY.codes)
            assert bank.metadata == {"model": "none"}
            harmless += 1
    assert refused + harmless == 63
    assert refused > harmless


def test_no_leftovers(folder, monkeypatch):
    writer = BankWriter(folder, **OPTIONS)

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        writer.write(CODES[:0], BankProgress(25))
    assert not list(folder.rglob("*.tmp"))
    np.testing.assert_array_equal(read_bank(folder).codes, CODES)
