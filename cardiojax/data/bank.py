"""A bank of latent codes on disk: a Zarr group that is valid after every chunk, whenever the writer dies."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorstore

from cardiojax import latent

_DENSITIES = {kind.__name__: kind for kind in (latent.Gaussian, latent.Mixture, latent.Parzen)}


class BankError(Exception):
    """A bank cannot be used, in one sentence that names it."""


class Progress(NamedTuple):
    """How far a bank is filled, and where its draws go on.

    Attributes:
        num_codes: Codes on disk.
        num_drawn: Codes drawn for them.
        num_valid: How many of those were valid.
        next_round: Round of draws that holds the first code that is not on disk.
        valid_before: Valid codes of the rounds before it.
        skip: Valid codes of it that are on disk.
    """

    num_codes: int = 0
    num_drawn: int = 0
    num_valid: int = 0
    next_round: int = 0
    valid_before: int = 0
    skip: int = 0


class Bank(NamedTuple):
    """Codes of plausible shapes and what they are.

    Attributes:
        codes: ``[n, d]``, as many as there are on disk.
        density: What they were drawn from.
        facts: Model, criteria, seed and whatever else decided them.
        progress: Counts.
    """

    codes: np.ndarray
    density: latent.Density
    facts: dict[str, Any]
    progress: Progress


class BankWriter:
    """Writes a bank chunk by chunk; a bank that is found is gone on with.

    Args:
        folder: The bank, by habit named ``*.zarr``.
        num_codes: Codes it will hold.
        chunk_size: Codes a chunk.
        dtype: Precision of the codes, such as ``"float16"``.
        density: What they are drawn from.
        facts: What decides the codes, as JSON can say it.

    Raises:
        BankError: If the folder holds a bank of other facts, or something else.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        num_codes: int,
        chunk_size: int,
        dtype: str,
        density: latent.Density,
        facts: dict[str, Any],
    ):
        self._folder = Path(folder)
        self._chunk_size = chunk_size
        arrays = {name: np.asarray(leaf) for name, leaf in density._asdict().items()}  # type: ignore[attr-defined]
        shape = [num_codes, arrays["scale_tril" if "scale_tril" in arrays else "scale_trils"].shape[-1]]
        kind = type(density).__name__
        header = {"facts": facts, "density": kind, "shape": shape, "dtype": dtype, "chunk_size": chunk_size}
        self._header = json.loads(json.dumps(header))
        self.progress = Progress()
        if (self._folder / "zarr.json").exists():
            attributes = _read_attributes(self._folder)
            self.progress = Progress(**attributes.pop("progress"))
            if attributes != self._header or not all(
                np.array_equal(_open_array(self._folder / kind.lower() / name).read().result(), leaf)
                for name, leaf in arrays.items()
            ):
                raise BankError(f"{folder} holds a bank of other facts; choose another folder")
        else:
            if self._folder.exists() and any(self._folder.iterdir()):
                raise BankError(f"{folder} is not empty and holds no bank; choose another folder")
            for name, leaf in arrays.items():
                path = self._folder / kind.lower() / name
                _open_array(path, leaf.shape, list(leaf.shape), leaf.dtype.name).write(leaf).result()
            _open_array(self._folder / "codes", shape, [chunk_size, shape[1]], dtype)
            self._write_attributes()
        self._codes = _open_array(self._folder / "codes")

    def write(self, codes: np.ndarray, progress: Progress) -> None:
        """Writes the next chunk, and only then says that it is there.

        Args:
            codes: A full chunk, or what is missing to the end.
            progress: The counts with it.
        """
        first = self.progress.num_codes
        self._codes[first : first + len(codes)].write(codes).result()
        self.progress = progress
        self._write_attributes()

    def _write_attributes(self) -> None:
        attributes = {**self._header, "progress": self.progress._asdict()}
        text = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, indent=2) + "\n"
        temporary = self._folder / "zarr.json.tmp"
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._folder / "zarr.json")


def read_bank(folder: str | Path) -> Bank:
    """Reads a bank, finished or not.

    Args:
        folder: What `BankWriter` wrote.

    Returns:
        The bank.

    Raises:
        BankError: If there is none or it is damaged.
    """
    folder = Path(folder)
    attributes = _read_attributes(folder)
    try:
        progress = Progress(**attributes["progress"])
        codes = _open_array(folder / "codes")[: progress.num_codes].read().result()
        kind = _DENSITIES[attributes["density"]]
        leaves = {name: _open_array(folder / kind.__name__.lower() / name).read().result() for name in kind._fields}
    except (KeyError, TypeError, ValueError) as error:
        raise BankError(f"{folder} holds a damaged bank ({str(error).splitlines()[0][:160]})") from error
    return Bank(codes, kind(**leaves), attributes["facts"], progress)


def _read_attributes(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError) as error:
        raise BankError(f"{folder} holds no bank of codes ({error})") from error


def _open_array(path: Path, shape=None, chunk=None, dtype: str | None = None) -> Any:
    """Opens an array of the group, or makes it if its shape is given."""
    spec: dict[str, Any] = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    if shape is not None:
        grid = {"name": "regular", "configuration": {"chunk_shape": chunk}}
        spec["metadata"] = {"shape": list(shape), "chunk_grid": grid, "data_type": dtype}
    # A writer that died before its first manifest leaves arrays of the same facts or of none.
    return tensorstore.open(spec, create=shape is not None, delete_existing=shape is not None).result()
