"""PyTorch's ``.pth`` files, read without PyTorch and without running what they contain.

The file is a zip of one pickle, which describes tensors, and one raw file per storage. The pickle machine here knows
nothing but what describes tensors: any other name in it ends the reading. Nothing is read from a storage before
its size has been compared with the file's.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from cardiojax.zoo.weights import WeightsError

_DTYPES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
#: Names that training logs and settings beside the tensors use; they become nothing.
_INERT = {
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("torch", "device"),
    ("torch", "Size"),
}
_LARGEST_PICKLE = 64 * 2**20


class _Storage(NamedTuple):
    dtype: np.dtype
    key: str
    size: int


class Tensor(NamedTuple):
    """A tensor in a file, not yet read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a ``.pth`` or ``.pt`` file.

    Dictionaries within dictionaries are searched too; a lone wrapping one (``model``, ``state_dict``,
    ``network_weights``, ...) leaves no trace in the names.

    Args:
        path: A file that ``torch.save`` wrote in its zip format, the default since version 1.6.

    Returns:
        Name to array.

    Raises:
        WeightsError: If the file is missing, damaged, asks to run code, or claims more data than it has.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            description = next((name for name in entries if name.endswith("data.pkl")), None)
            if description is None:
                raise WeightsError(f"{path}: a zip file, but none that torch.save wrote (no data.pkl in it)")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
                raise WeightsError(f"{path}: has compressed entries, which torch.save never writes")
            if entries[description].file_size > _LARGEST_PICKLE:
                raise WeightsError(f"{path}: its description of tensors is over {_LARGEST_PICKLE >> 20} MiB")
            folder = description.removesuffix("data.pkl")
            if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
                raise WeightsError(f"{path}: was written on a big-endian machine")
            content = _Unpickler(io.BytesIO(archive.read(description))).load()
            tensors = _named_tensors(content)
            if not tensors:
                raise WeightsError(f"{path}: holds no tensors")
            return {name: _read(archive, entries, folder, name, each) for name, each in tensors.items()}
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weight file") from None
    except _ForbiddenError as error:
        raise WeightsError(f"{path}: refused, for reading it would run {error}") from None
    except WeightsError as error:
        raise WeightsError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{path}: not a readable file of torch.save since version 1.6 ({error})") from None
    except Exception as error:  # a hostile pickle can fail in any way
        raise WeightsError(f"{path}: damaged ({type(error).__name__}: {error})") from None


class _ForbiddenError(Exception):
    pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, requires_grad, hooks: tensor
        if (module, name) in _INERT:
            return _Nothing
        raise _ForbiddenError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise _ForbiddenError(f"an unknown kind of storage, {kind}")
        return _Storage(dtype, str(key), int(size))


class _Nothing:
    def __init__(self, *_: Any):
        pass

    def __setstate__(self, _: Any):
        pass


def _rebuild_tensor(storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> Tensor:
    return Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _named_tensors(content: Any) -> dict[str, Tensor]:
    found, pending = {}, [("", content)]
    seen: set[int] = set()
    while pending:
        prefix, value = pending.pop()
        if isinstance(value, Tensor):
            found[prefix] = value
        elif isinstance(value, Mapping) and id(value) not in seen:
            seen.add(id(value))
            if not prefix:
                value = next((value[key] for key in _WRAPPERS if isinstance(value.get(key), Mapping)), value)
            pending += [(f"{prefix}.{key}" if prefix else str(key), each) for key, each in value.items()]
    return found


#: Keys under which projects keep the weights, beside the optimizer's state.
_WRAPPERS = ("network_weights", "model_state_dict", "state_dict", "model")


def _read(archive: zipfile.ZipFile, entries: dict, folder: str, name: str, tensor: Tensor) -> np.ndarray:
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    entry = entries.get(f"{folder}data/{storage.key}")
    if entry is None:
        raise WeightsError(f"{name} has no data in the file")
    if len(shape) != len(strides) or min((0, tensor.offset, *shape, *strides)) < 0:
        raise WeightsError(f"{name} has shape {shape} and strides {strides}")
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if math.prod(shape) else -1
    itemsize = storage.dtype.itemsize
    if (last + 1) * itemsize > entry.file_size or math.prod(shape) * itemsize > entry.file_size:
        raise WeightsError(f"{name} claims shape {shape}, more than the {entry.file_size} bytes the file has for it")
    values = np.frombuffer(archive.read(entry), storage.dtype)
    view = np.lib.stride_tricks.as_strided(
        values[tensor.offset :], shape, tuple(s * itemsize for s in strides), writeable=False
    )
    return np.ascontiguousarray(view)
