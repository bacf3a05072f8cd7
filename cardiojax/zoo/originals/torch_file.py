"""PyTorch's ``.pth`` files, read without PyTorch and without running what they contain.

The file is a zip of one pickle, which describes tensors, and one raw file per storage. The pickle is interpreted as
data (`cardiojax.zoo.pickles`). Each size, offset, shape and stride that the file states is compared with the bytes that
were read before an array is made of them. The arrays are views of these bytes: memory is bounded by the file's size.
"""

import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from cardiojax.zoo.originals import pickles
from cardiojax.zoo.weights import WeightsError, printable

_DTYPES: dict[str, np.dtype] = {
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": np.dtype(jnp.bfloat16),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
    # types that came later have no storage class of their own: the tensor states them
    "torch.float8_e4m3fn": np.dtype(jnp.float8_e4m3fn),
    "torch.float8_e4m3fnuz": np.dtype(jnp.float8_e4m3fnuz),
    "torch.float8_e5m2": np.dtype(jnp.float8_e5m2),
    "torch.float8_e5m2fnuz": np.dtype(jnp.float8_e5m2fnuz),
    "torch.float8_e8m0fnu": np.dtype(jnp.float8_e8m0fnu),
    "torch.uint16": np.dtype("<u2"),
    "torch.uint32": np.dtype("<u4"),
    "torch.uint64": np.dtype("<u8"),
}
#: Keys under which projects keep the weights, beside the optimizer's state.
_WRAPPERS = ("network_weights", "model_state_dict", "state_dict", "model")
#: Dictionaries of a checkpoint lie about five deep, its names have about 100 characters.
_MAX_DEPTH = 32
_MAX_NAME = 400
_MAX_AXES = 32
_MAX_ITEMS = 1_000_000
#: nnU-Net writes each tensor under four names; all tensors together are at most so many times their storages.
_MAX_REUSE = 16
#: How every file of torch.save before version 1.6 begins: a pickle of its magic number.
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class _Storage(NamedTuple):
    dtype: str
    key: str


class Tensor(NamedTuple):
    """A tensor in a file, not yet read.

    Attributes:
        dtype: PyTorch's name of its type or of its storage's.
        key: Name of its storage in the file.
        offset: First element in the storage.
        shape: Its shape.
        strides: Elements of the storage between neighbours along each axis.
    """

    dtype: str
    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a ``.pth`` or ``.pt`` file.

    Dictionaries within dictionaries are searched too; wrapping ones (``model``, ``state_dict``,
    ``network_weights``, ...) leave no trace in the names. What else the file holds, such as an optimizer, settings or
    a log, is skipped.

    Args:
        path: A file that ``torch.save`` wrote in its zip format, the default since version 1.6.

    Returns:
        Name to read-only array.

    Raises:
        WeightsError: If the file is missing or damaged, claims more data than it has, or holds its tensors within
            objects of other classes than dictionaries.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise WeightsError("no such weight file")
        with path.open("rb") as file:
            if file.read(len(_LEGACY)) == _LEGACY:
                raise WeightsError("was written by torch.save before version 1.6; load and save it with a newer one")
        with zipfile.ZipFile(path) as archive:
            entries = _checked_entries(archive, path.stat().st_size)
            description = next((name for name in entries if name.endswith("data.pkl")), None)
            if description is None:
                raise WeightsError("a zip file, but none that torch.save wrote (no data.pkl in it)")
            folder = description.removesuffix("data.pkl")

            def read(name: str) -> bytes | None:
                return _read_entry(archive, entries[folder + name]) if folder + name in entries else None

            if read("byteorder") not in (None, b"little"):
                raise WeightsError("was written on a big-endian machine")
            if entries[description].file_size > pickles.MAX_BYTES:
                raise WeightsError(f"its description of tensors is over {pickles.MAX_BYTES >> 20} MiB")
            functions = {**_FUNCTIONS, "torch._tensor._rebuild_from_type_v2": _subclass}
            content = pickles.interpret(read("data.pkl") or b"", functions, _storage)
            return _arrays(_named_tensors(content), lambda key: read(f"data/{key}"))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except zipfile.BadZipFile as error:
        reason = printable(str(error))
        raise WeightsError(f"{path}: not a readable file of torch.save since version 1.6 ({reason})") from None
    except Exception as error:  # zipfile raises many kinds for a damaged file
        raise WeightsError(f"{path}: damaged ({type(error).__name__}: {printable(str(error))})") from None


def _checked_entries(archive: zipfile.ZipFile, file_size: int) -> dict[str, zipfile.ZipInfo]:
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise WeightsError("has two entries of one name")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise WeightsError("has compressed entries, which torch.save never writes")
    if any(entry.file_size != entry.compress_size for entry in entries.values()) or (
        sum(entry.file_size for entry in entries.values()) > file_size  # they overlap
    ):
        raise WeightsError(f"its directory claims more data than the {file_size} bytes it has")
    return entries


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    data = archive.read(entry)
    if len(data) != entry.file_size:
        raise WeightsError(
            f"its directory claims {entry.file_size} bytes for {printable(entry.filename)}, which has {len(data)}"
        )
    return data


def _storage(description: Any) -> _Storage:
    if not isinstance(description, tuple) or len(description) != 5 or description[0] != "storage":
        raise WeightsError("has data of an unknown kind outside its description")
    _, dtype, key, _, _ = description
    if not isinstance(dtype, pickles.Name) or not isinstance(key, str):
        raise WeightsError("has a storage without a type or a name")
    return _Storage(dtype.text, key)


def _tensor(arguments: tuple, dtype: str | None = None) -> Tensor:
    if len(arguments) < 4 or not isinstance(arguments[0], _Storage):
        raise WeightsError("describes a tensor without a storage")
    storage, offset, shape, strides = arguments[:4]
    if not all(isinstance(axes, tuple) for axes in (shape, strides)) or not (
        all(type(number) is int for number in (offset, *shape, *strides))
    ):
        raise WeightsError("describes a tensor whose shape is not made of whole numbers")
    return Tensor(dtype or storage.dtype, storage.key, offset, shape, strides)


def _typed_tensor(arguments: tuple) -> Tensor:
    if len(arguments) < 7 or not isinstance(arguments[6], pickles.Name):
        raise WeightsError("describes a tensor without a type")
    return _tensor(arguments, arguments[6].text)


def _first(arguments: tuple) -> Any:
    return arguments[0] if arguments else None


def _subclass(arguments: tuple) -> Any:
    """A tensor of a subclass, as MONAI's: the function that would make it, its class, arguments and state."""
    function, _, inner, *_ = (*arguments, None, None, None)
    make = _FUNCTIONS.get(function.text) if isinstance(function, pickles.Name) else None
    if make is None or not isinstance(inner, tuple):
        return pickles.Record("a tensor of another class", [arguments])
    return make(inner)


#: What stands for the calls that describe tensors; any other call becomes an inert record.
_FUNCTIONS: dict[str, Callable[[tuple], Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
}


def _named_tensors(content: Any) -> dict[str, Tensor]:
    leaves = list(_paths(content))
    if not leaves:
        kind = _kind_with_tensors(content)
        if kind is None:
            raise WeightsError("holds no tensors")
        raise WeightsError(f"holds its tensors within {printable(kind)}, which is not read; save a state_dict instead")
    while True:
        groups = {path[0] for path, _ in leaves if len(path) > 1}
        wrapper = next((key for key in _WRAPPERS if key in groups), None)
        if wrapper is None:
            break
        leaves = [(path[1:], tensor) for path, tensor in leaves if path[0] == wrapper and len(path) > 1]
    named: dict[str, Tensor] = {}
    for path, tensor in leaves:
        name = ".".join(path)
        if len(name) > _MAX_NAME or not name.isprintable():
            raise WeightsError(f"holds a tensor with the unusable name {printable(name)}")
        if name in named:
            raise WeightsError(f"holds {name} twice")
        named[name] = tensor
    return named


def _paths(content: Any) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Tensors within dictionaries, with the keys that lead to them."""
    pending: list[tuple[tuple[str, ...], Any]] = [((), content)]
    num_items = 0
    while pending:
        path, value = pending.pop()
        if isinstance(value, Tensor):
            yield path or ("tensor",), value
        elif isinstance(value, pickles.Record):
            num_items += len(value.pairs)
            if num_items > _MAX_ITEMS:  # a dictionary within itself has no end
                raise WeightsError(f"holds over {_MAX_ITEMS} items in dictionaries")
            if len(path) > _MAX_DEPTH:
                raise WeightsError(f"holds dictionaries nested over {_MAX_DEPTH} deep")
            pending += [((*path, str(key)), each) for key, each in value.pairs[::-1] if type(key) in (str, int)]


def _kind_with_tensors(content: Any) -> str | None:
    """What a tensor lies in that is in no dictionary: the class of the outermost object, or a list."""
    pending: list[tuple[str, Any]] = [("a list", content)]
    seen: set[int] = set()
    while pending:
        kind, value = pending.pop()
        if isinstance(value, Tensor | _Storage):
            return kind
        if id(value) in seen:
            continue
        seen.add(id(value))
        parts: list[Any] = list(value) if isinstance(value, list | tuple) else []
        if isinstance(value, pickles.Record):
            parts = [*value.parts, *(each for _, each in value.pairs)]
            if kind == "a list" and value.kind != "dict":
                kind = f"an object of {value.kind}"
        pending += [(kind, each) for each in parts[::-1]]
    return None


def _arrays(tensors: dict[str, Tensor], read: Callable[[str], bytes | None]) -> dict[str, np.ndarray]:
    storages: dict[str, bytes] = {}
    arrays, num_bytes = {}, 0
    for name, tensor in tensors.items():
        if tensor.key not in storages:
            data = read(tensor.key)
            if data is None:
                raise WeightsError(f"{name} has no data in the file")
            storages[tensor.key] = data
        arrays[name] = _array(name, tensor, storages[tensor.key])
        num_bytes += arrays[name].nbytes
    if num_bytes > _MAX_REUSE * sum(map(len, storages.values())):
        raise WeightsError(f"its tensors overlap: they take over {_MAX_REUSE} times the bytes that they share")
    return arrays


def _array(name: str, tensor: Tensor, data: bytes) -> np.ndarray:
    dtype, shape, strides = _DTYPES.get(tensor.dtype), tensor.shape, tensor.strides
    if dtype is None:
        raise WeightsError(f"{name} has the type {printable(tensor.dtype)}, which cannot be read")
    if len(shape) != len(strides) or len(shape) > _MAX_AXES or min((0, tensor.offset, *shape, *strides)) < 0:
        raise WeightsError(f"{name} has {_short(shape)} as its shape and {_short(strides)} as its strides")
    size = math.prod(shape)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if size else -1
    num_values = len(data) // dtype.itemsize
    if last >= num_values or size > num_values:
        raise WeightsError(f"{name} claims shape {_short(shape)}, more than the {len(data)} bytes the file has for it")
    steps = tuple(s * dtype.itemsize if n > 1 else 0 for n, s in zip(shape, strides, strict=True))
    offset = tensor.offset * dtype.itemsize if size else 0
    return np.ndarray(shape, dtype, buffer=data if size else b"", offset=offset, strides=steps)


def _short(numbers: tuple[int, ...]) -> str:
    return printable(str(tuple(min(max(number, -(10**20)), 10**20) for number in numbers[:_MAX_AXES])))
