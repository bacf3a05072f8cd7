"""From disk to batches: files, sources, loading, augmentation."""

import importlib
from typing import Any

from cardiojax.data.files import LabelMaps as LabelMaps
from cardiojax.data.files import Recording as Recording
from cardiojax.data.files import example_path as example_path
from cardiojax.data.files import identify as identify
from cardiojax.data.files import read as read
from cardiojax.data.files import read_labels as read_labels
from cardiojax.data.files import write_labels as write_labels
from cardiojax.data.formats.common import UnreadableFileError as UnreadableFileError
from cardiojax.data.formats.common import printable as printable
from cardiojax.data.formats.layout import Geometry as Geometry
from cardiojax.data.formats.layout import Region as Region
from cardiojax.data.formats.layout import spacing_of_box as spacing_of_box
from cardiojax.data.headers import Header as Header
from cardiojax.data.headers import read_header as read_header
from cardiojax.data.headers import read_index as read_index

#: Modules with heavy dependencies, imported on first access.
_MODULES = frozenset({"arrays", "augment", "bank", "datasets", "loader", "phantom", "shapes"})


def __getattr__(name: str) -> Any:
    """Imports a module of this package on first access."""
    if name in _MODULES:
        return importlib.import_module(f"cardiojax.data.{name}")
    raise AttributeError(f"module 'cardiojax.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
