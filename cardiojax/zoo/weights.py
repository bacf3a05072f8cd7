"""Weight files: flat safetensors in half precision, checked leaf by leaf when they are loaded."""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from cardiojax import storage

#: A header states about 100 bytes a tensor: 160,000 tensors, which take about 100 MB of memory.
_MAX_HEADER = 16 * 2**20
#: Name of the checksum in the metadata; files of other projects have none.
_CHECKSUM = "cardiojax_checksum"
_FILE_DTYPES = ("float16", "bfloat16", "float32", "float64")
_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(jnp.bfloat16),
    "F8_E4M3": np.dtype(jnp.float8_e4m3fn),
    "F8_E4M3FNUZ": np.dtype(jnp.float8_e4m3fnuz),
    "F8_E5M2": np.dtype(jnp.float8_e5m2),
    "F8_E5M2FNUZ": np.dtype(jnp.float8_e5m2fnuz),
    "F8_E8M0": np.dtype(jnp.float8_e8m0fnu),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


class WeightsError(Exception):
    """A weight file cannot be used, in one sentence."""


def save_weights(
    path: str | Path, params: PyTree, *, dtype: str = "float16", metadata: dict[str, str] | None = None
) -> None:
    """Writes parameters, whole or not at all, with a checksum that is compared when they are read.

    Args:
        path: Target file, ``.safetensors``.
        params: Nested dictionaries of arrays.
        dtype: Type in the file: ``"float16"``, ``"bfloat16"``, ``"float32"`` or ``"float64"``.
        metadata: Text to keep beside the arrays.

    Raises:
        ValueError: If the type is another.
        WeightsError: If a value is not finite, or not in this type.
        OSError: If the file cannot be written; one that was there is unchanged.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(f"{folder}/w.safetensors", {"dense": {"kernel": jnp.ones((2, 3))}})
        ...     print(load_weights(f"{folder}/w.safetensors")["dense"]["kernel"].shape)
        (2, 3)
    """
    from safetensors.numpy import save

    if dtype not in _FILE_DTYPES:
        raise ValueError(f"the type of a weight file is one of {', '.join(_FILE_DTYPES)}, got {dtype!r}")
    flat = {}
    for name, leaf in flatten(params).items():
        values = np.asarray(leaf)
        if not np.isfinite(values).all():
            raise WeightsError(f"{path}: not written, for {name} holds values that are not finite")
        with np.errstate(over="ignore"):
            flat[name] = values.astype(jnp.dtype(dtype), order="C")
        if not np.isfinite(flat[name]).all():
            raise WeightsError(f"{path}: not written, for {name} exceeds the range of {dtype}; choose float32")
    text = dict(metadata or {})
    storage.write_atomic(path, save(flat, metadata={**text, _CHECKSUM: _checksum(flat, text)}))


def load_weights(path: str | Path, abstract_params: PyTree | None = None) -> PyTree:
    """Reads parameters as float32.

    Args:
        path: File written by `save_weights`.
        abstract_params: The expected tree, as `jax.eval_shape` gives it; the file is trusted if not given.

    Returns:
        The parameters.

    Raises:
        WeightsError: If the file is missing, damaged, or does not fit the model; the first mismatch is named.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(f"{folder}/w.safetensors", {"dense": {"kernel": jnp.ones((2, 3))}})
        ...     print(load_weights(f"{folder}/w.safetensors")["dense"]["kernel"].dtype)
        float32
    """
    flat = read_safetensors(path)
    if abstract_params is not None:
        check_shapes(path, flat, flatten(abstract_params))
    params: dict = {}
    for name, values in flat.items():
        *folders, last = name.split("/")
        tree = params
        for folder in folders:
            tree = tree.setdefault(folder, {})
            if not isinstance(tree, dict):
                raise WeightsError(f"{path}: holds an array and a folder of one name, in {name}")
        if last in tree:
            raise WeightsError(f"{path}: holds an array and a folder of one name, {name}")
        tree[last] = jax.device_put(as_float32(values, name, path))  # `jnp.asarray` compiles a copy for each shape
    return params


def check_shapes(path: str | Path, flat: dict, expected: dict) -> None:
    """Compares named arrays with those of a model.

    Args:
        path: Their file, for the error.
        flat: The arrays of the file, or what will be.
        expected: Those of the model, or their shapes.

    Raises:
        WeightsError: If a name is absent or left over, or a shape differs; the first is named.
    """
    if lacking := sorted(expected.keys() - flat.keys()):
        raise WeightsError(f"{path}: the model needs {first_of(lacking)}, which the file lacks")
    if unknown := sorted(flat.keys() - expected.keys()):
        raise WeightsError(f"{path}: the file holds {first_of(unknown)}, which the model lacks")
    for name in expected:
        if flat[name].shape != expected[name].shape:
            raise WeightsError(f"{path}: {name} has shape {flat[name].shape}, the model needs {expected[name].shape}")


def as_float32(values: np.ndarray, name: str, source: str | Path) -> np.ndarray:
    """Converts numbers of any type, F8 and bfloat16 too.

    Args:
        values: The numbers.
        name: Their name, for the error.
        source: Their file, for the error.

    Returns:
        The numbers in float32.

    Raises:
        WeightsError: If one is not finite.
    """
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise WeightsError(f"{source}: {name} holds values that are not finite")
    return values


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a ``.safetensors`` file.

    The package safetensors checks that the data follow each other without overlap, fill the file, and have the size of
    their type and shape; memory is bounded by the size of the file. A checksum of `save_weights` is compared.

    Args:
        path: The file.

    Returns:
        Name to array, in the type of the file.

    Raises:
        WeightsError: If the file is missing or damaged, or holds a type that NumPy lacks (F4, F6).
    """
    metadata = dict(read_metadata(path))
    arrays = {}
    try:
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length), object_pairs_hook=_without_duplicates)
            for name, tensor in header.items():
                if name != "__metadata__":
                    arrays[name] = _read_array(file, 8 + length, name, tensor)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({printable(str(error))})") from error
    if metadata.pop(_CHECKSUM, None) not in (None, _checksum(arrays, metadata)):
        raise WeightsError(f"{path}: is damaged, its contents do not match their checksum")
    return arrays


def _checksum(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """CRC-32 of text, names, types, shapes and numbers."""
    value = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name, values in sorted(arrays.items()):
        value = zlib.crc32(f"{name} {values.dtype.name} {values.shape}".encode(), value)
        value = zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data, value)
    return f"{value:08x}"


def _read_array(file: Any, start: int, name: str, tensor: dict[str, Any]) -> np.ndarray:
    dtype, shape, (first, last) = _DTYPES.get(tensor["dtype"]), tensor["shape"], tensor["data_offsets"]
    if not name.isprintable():
        raise WeightsError(f"holds an array with the unusable name {printable(name)}")
    if dtype is None:
        raise WeightsError(f"{name} has the type {printable(str(tensor['dtype']))}, which cannot be read")
    if math.prod(shape) * dtype.itemsize != last - first:
        raise WeightsError(f"{name} claims shape {tuple(shape)} for {last - first} bytes of {tensor['dtype']}")
    file.seek(start + first)
    data = file.read(last - first)
    if len(data) != last - first:
        raise WeightsError(f"{name} claims {last - first} bytes, of which the file has {len(data)}")
    return np.frombuffer(data, dtype).reshape(shape)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise WeightsError("states a name twice")
    return content


def read_metadata(path: str | Path) -> dict[str, str]:
    """Reads the text beside the arrays of a ``.safetensors`` file.

    Args:
        path: The file.

    Returns:
        Name to text.

    Raises:
        WeightsError: If the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such weight file")
    try:
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER:
            raise WeightsError(f"{path}: not a readable safetensors file (a header of {length} bytes)")
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({printable(str(error))})") from error


def printable(text: str) -> str:
    """Text of a file as part of a sentence: one short line without control characters."""
    line = "".join(c if c.isprintable() else "?" for c in text[:200])
    return f"{line[:120]}..." if len(line) > 120 else line


def first_of(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def flatten(params: PyTree) -> dict:
    """Names the leaves of nested dictionaries by their paths, with slashes.

    Example:
        >>> flatten({"dense": {"kernel": 1, "bias": 2}})
        {'dense/bias': 2, 'dense/kernel': 1}
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(str(key.key) for key in path): leaf for path, leaf in leaves}
