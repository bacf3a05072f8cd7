"""A bank of latent codes on disk: a Zarr group that is valid after every chunk, whenever the writer dies.

The attributes of the group hold a checksum of every chunk of codes, of every array of the density and of themselves:
a chunk that is missing or was changed is an error, never a code.
"""

import json
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorstore

from cardiojax import latent, storage
from cardiojax.data.formats.common import printable

_DENSITIES = {kind.__name__: kind for kind in (latent.Gaussian, latent.Mixture, latent.Parzen)}


class BankError(Exception):
    """A bank cannot be used, in one sentence that names it."""

    def __init__(self, message: str):
        super().__init__(printable(message))


class BankProgress(NamedTuple):
    """How far a bank is filled, and where its draws resume.

    Attributes:
        num_codes: Codes on disk.
        num_drawn: Codes drawn for them: accepted, decoded and checked.
        num_valid: How many of those were valid.
        next_round: Round of draws that holds the first code that is not on disk.
        valid_before: Valid codes of the rounds before it.
        skip: Valid codes of it that are on disk.
        num_proposed: Draws of the proposal for them.
        num_accepted: How many of those were accepted.
        proposed_before: Draws of the proposal in the rounds before ``next_round``.
        accepted_before: How many of those were accepted.
    """

    num_codes: int = 0
    num_drawn: int = 0
    num_valid: int = 0
    next_round: int = 0
    valid_before: int = 0
    skip: int = 0
    num_proposed: int = 0
    num_accepted: int = 0
    proposed_before: int = 0
    accepted_before: int = 0

    @property
    def acceptance(self) -> float:
        """Part of the proposals that was accepted; nan before the first."""
        return self.num_accepted / self.num_proposed if self.num_proposed else float("nan")


class LatentBank(NamedTuple):
    """Codes of anatomically valid shapes and what they are.

    Attributes:
        codes: ``[n, d]``, as many as there are on disk.
        density: What they were drawn from.
        metadata: Model, criteria, seed and whatever else decided them.
        progress: Counts.
    """

    codes: np.ndarray
    density: latent.Density
    metadata: dict[str, Any]
    progress: BankProgress


class BankWriter:
    """Writes a bank chunk by chunk; an existing bank is resumed.

    Args:
        folder: The bank, by habit named ``*.zarr``.
        num_codes: Codes it will hold.
        chunk_size: Codes a chunk.
        dtype: Precision of the codes, such as ``"float16"``.
        density: What they are drawn from.
        metadata: What decides the codes, as JSON can say it.

    Raises:
        BankError: If the folder holds another bank, or something else.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        num_codes: int,
        chunk_size: int,
        dtype: str,
        density: latent.Density,
        metadata: dict[str, Any],
    ):
        self._folder = Path(folder)
        self._chunk_size = chunk_size
        arrays = {name: np.asarray(leaf) for name, leaf in density._asdict().items()}  # type: ignore[attr-defined]
        kind = type(density).__name__
        described = {name: _describe(leaf) for name, leaf in arrays.items()}
        shape = [num_codes, arrays["scale_tril" if "scale_tril" in arrays else "scale_trils"].shape[-1]]
        header = {"metadata": metadata, "density": kind, "arrays": described}
        header |= {"shape": shape, "dtype": dtype, "chunk_size": chunk_size}
        self._header = json.loads(json.dumps(header))
        self._checksums: list[int] = []
        self.progress = BankProgress()
        if (self._folder / "zarr.json").exists():
            bank = read_bank(self._folder)
            attributes = _read_attributes(self._folder)
            if any(attributes[key] != value for key, value in self._header.items()):
                raise BankError(f"{folder} holds another bank; choose another folder")
            self.progress, self._checksums = bank.progress, attributes["checksums"]
        else:
            if self._folder.exists() and not all(map(_is_leftover, self._folder.iterdir())):
                raise BankError(f"{folder} is not empty and holds no bank; choose another folder")
            for name, leaf in arrays.items():
                path = self._folder / kind.lower() / name
                _open_array(path, leaf.shape, list(leaf.shape), leaf.dtype.name).write(leaf).result()
            _open_array(self._folder / "codes", shape, [chunk_size, shape[1]], dtype)
            self._write_attributes()
        self._codes = _open_array(self._folder / "codes")

    def write(self, codes: np.ndarray, progress: BankProgress) -> None:
        """Writes the next chunk, and only then says that it is there.

        Args:
            codes: A full chunk, or what is missing to the end.
            progress: The counts with it.
        """
        first = self.progress.num_codes
        self._codes[first : first + len(codes)].write(codes).result()
        self._checksums.append(_checksum(np.asarray(codes, self._header["dtype"])))
        self.progress = progress
        self._write_attributes()

    def _write_attributes(self) -> None:
        attributes = {**self._header, "progress": self.progress._asdict(), "checksums": self._checksums}
        attributes["checksum"] = _attributes_checksum(attributes)
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        storage.write_atomic(self._folder / "zarr.json", json.dumps(group, indent=2) + "\n")


def read_bank(folder: str | Path) -> LatentBank:
    """Reads a bank, finished or not, and compares it with its checksums.

    Args:
        folder: What `BankWriter` wrote.

    Returns:
        The bank.

    Raises:
        BankError: If there is none, or a part of it is missing or damaged.
    """
    folder = Path(folder)
    attributes = _read_attributes(folder)
    try:
        progress = BankProgress(**attributes["progress"])
        size, num_codes = attributes["chunk_size"], progress.num_codes
        array = _open_checked(folder / "codes", attributes, [size, attributes["shape"][1]])
        codes: Any = array[:num_codes].read().result()
        for index, start in enumerate(range(0, num_codes, size)):
            if _checksum(codes[start : start + size]) != attributes["checksums"][index]:
                raise BankError(
                    f"{folder} holds a damaged bank: codes {start} to {min(start + size, num_codes) - 1} are missing "
                    "or were changed"
                )
        kind = _DENSITIES[attributes["density"]]
        leaves: dict[str, Any] = {name: _read_leaf(folder, attributes, name) for name in kind._fields}
    except (LookupError, TypeError, ValueError, OSError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise BankError(f"{folder} holds a damaged bank ({reason})") from error
    return LatentBank(codes, kind(**leaves), attributes["metadata"], progress)


def _is_leftover(path: Path) -> bool:
    """Whether a file or folder may come from a writer that died before its first manifest."""
    return path.name in {"codes", *(name.lower() for name in _DENSITIES)} or path.suffix == ".tmp"


def _read_leaf(folder: Path, attributes: dict[str, Any], name: str) -> np.ndarray:
    described = attributes["arrays"][name]
    path = folder / attributes["density"].lower() / name
    leaf = _open_checked(path, described, described["shape"]).read().result()
    if _describe(leaf) != described:
        raise BankError(f"{folder} holds a damaged bank: {name} of the density is missing or was changed")
    return leaf


def _describe(array: np.ndarray) -> dict[str, Any]:
    return {"shape": list(array.shape), "dtype": array.dtype.name, "checksum": _checksum(array)}


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data) if array.size else 0


def _attributes_checksum(attributes: dict[str, Any]) -> int:
    rest = {key: value for key, value in attributes.items() if key != "checksum"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def _read_attributes(folder: Path) -> dict[str, Any]:
    try:
        attributes = json.loads((folder / "zarr.json").read_text("utf-8"))["attributes"]
        expected = attributes["checksum"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BankError(f"{folder} holds no bank of codes ({error})") from error
    if _attributes_checksum(attributes) != expected:
        raise BankError(f"{folder} holds a damaged bank: its attributes were changed")
    return attributes


def _open_checked(path: Path, described: dict[str, Any], chunk: list[int]) -> Any:
    """Opens an array; a shape or type other than described would read something else, or more than fits in memory."""
    array = _open_array(path)
    stored = (list(array.shape), array.dtype.name, list(array.chunk_layout.read_chunk.shape))
    expected = (described["shape"], described["dtype"], chunk)
    if stored != expected:
        raise ValueError(f"{path.name} is {stored[1]} {stored[0]}, expected {expected[1]} {expected[0]}")
    return array


def _open_array(path: Path, shape=None, chunk=None, dtype: str | None = None) -> Any:
    """Opens an array of the group, or makes it if its shape is given."""
    spec: dict[str, Any] = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path.resolve())}}
    if shape is not None:
        grid = {"name": "regular", "configuration": {"chunk_shape": chunk}}
        # stated, because TensorStore otherwise splits a chunk that is larger than the array into smaller ones
        codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
        spec["metadata"] = {"shape": list(shape), "chunk_grid": grid, "data_type": dtype, "codecs": codecs}
    # A writer that died before its first manifest leaves arrays of the same metadata or of none.
    return tensorstore.open(spec, create=shape is not None, delete_existing=shape is not None).result()
