"""Files of ``torch.save``'s format, honest and forged, written by hand so that the tests need no PyTorch."""

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np


class Named:
    """Pickles as a global name."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    def __init__(self, function, arguments):
        self.function, self.arguments = function, arguments


class Storage:
    def __init__(self, kind, key, size):
        self.pid = ("storage", Named("torch", kind), key, "cpu", size)


class Pickler(pickle._Pickler):
    """Writes what torch.save writes."""

    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Storage) else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Named):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


def tensor(key, shape, strides, *, offset=0, kind="FloatStorage", size=None):
    """What torch.save writes for a tensor in the storage ``key``."""
    storage = Storage(kind, key, int(np.prod(shape)) if size is None else size)
    rebuild = Named("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, (storage, offset, tuple(shape), tuple(strides), False, OrderedDict()))


def write_archive(path, content, storages, *, compress=zipfile.ZIP_STORED, protocol=2):
    """A file of torch.save's format: an object, or the bytes of its pickle, and storages."""
    stream = io.BytesIO()
    if isinstance(content, bytes):
        stream.write(content)
    else:
        Pickler(stream, protocol=protocol).dump(content)
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, blob in storages.items():
            archive.writestr(f"archive/data/{key}", blob)
        archive.writestr("archive/version", "3\n")


def write_torch(
    path, state, *, kind="FloatStorage", compress=zipfile.ZIP_STORED, wrap=lambda x: x, data=None, shape=None
):
    """A file of torch.save's format with the arrays of ``state``."""
    tensors, blobs = OrderedDict(), {}
    for i, (name, value) in enumerate(state.items()):
        value = np.ascontiguousarray(value)
        size = shape or value.shape
        strides = tuple(np.cumprod((1, *size[::-1]))[:-1][::-1].tolist()) if size else ()
        tensors[name] = tensor(str(i), size, strides, kind=kind)
        blobs[str(i)] = value.tobytes() if data is None else data
    write_archive(path, wrap(dict(tensors)), blobs, compress=compress)
