"""PNG and JPEG stills, NPY and NPZ arrays."""

import zipfile
from pathlib import Path

import numpy as np

from cardiojax.data.formats.common import Decoded, UnreadableFileError, check_size
from cardiojax.data.formats.grey import luma


def decode_picture(path: Path) -> Decoded:
    """Decodes a picture to ``[1, h, w]``: integers as stored if grey or of a palette, else their luma."""
    from PIL import Image

    with Image.open(path) as picture:
        check_size(path, (picture.height, picture.width, 4))
        if picture.mode in ("RGB", "RGBA", "CMYK", "YCbCr", "LA", "PA"):
            values, white = luma(np.asarray(picture.convert("RGB"))), 255.0
        else:
            values, white = np.asarray(picture), None
    return Decoded(values[None], None, None, "spacing unknown", white=white)


def decode_masks(path: Path) -> Decoded:
    """Decodes as `decode_array`; of an archive ``labels``, ``label``, ``masks``, ``mask`` or its only array."""
    return decode_array(path, names=("labels", "label", "masks", "mask"))


def decode_array(path: Path, *, names: tuple[str, ...] = ("frames", "image", "labels", "label")) -> Decoded:
    """Decodes ``[h, w]`` or ``[t, h, w]``; of an archive the first array of these names, or its only one."""
    with path.open("rb") as file:
        if file.read(2) == b"PK" and not zipfile.is_zipfile(file):  # NumPy would leave the file open
            raise UnreadableFileError(path, "is a damaged archive")
    loaded = np.load(path, allow_pickle=False, mmap_mode="r")
    spacing = None
    if isinstance(loaded, np.lib.npyio.NpzFile):
        with loaded as archive:
            known = [n for n in names if n in archive] or archive.files
            if not known:
                raise UnreadableFileError(path, "is an empty archive, expected an array")
            if len(known) > 1 and known == archive.files:
                raise UnreadableFileError(
                    path, f"holds {', '.join(known)}, expected one named {names[0]!r} or {names[1]!r}"
                )
            assert archive.zip is not None  # it is open
            check_size(path, (archive.zip.getinfo(f"{known[0]}.npy").file_size,))
            values = archive[known[0]]
            if "spacing" in archive and archive["spacing"].shape == (2,):
                dy, dx = archive["spacing"]
                spacing = (float(dy), float(dx))
    else:
        check_size(path, loaded.shape, loaded.dtype.itemsize)
        values = np.array(loaded)
    if values.ndim not in (2, 3) or values.dtype.kind not in "buif":
        raise UnreadableFileError(path, f"is {values.dtype} {list(values.shape)}, expected numbers [h, w] or [t, h, w]")
    return Decoded(values if values.ndim == 3 else values[None], spacing, None, "spacing from the archive")
