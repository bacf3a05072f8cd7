"""Rows as a Parquet file, written in groups. The only importer of pyarrow."""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cardiojax import storage
from cardiojax.archive.rows import columns

#: Rows that are in memory at a time.
_GROUP = 1000


def write_table(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes a table as `cardiojax.storage.write_atomic` does; memory holds 1000 rows.

    Args:
        path: Target, ``.parquet``.
        rows: Values of `columns`.

    Returns:
        The number of rows.

    Raises:
        ValueError: If pyarrow is not installed.
        OSError: If the file cannot be written; what was there before is unchanged.
    """
    arrow, parquet = _pyarrow()
    types = {"text": arrow.string(), "count": arrow.int32(), "number": arrow.float64()}
    schema = arrow.schema([(name, types[kind]) for name, kind in columns().items()])
    rows, num = iter(rows), 0
    with storage.open_atomic(path) as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(itertools.islice(rows, _GROUP)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))
            num += len(group)
    return num


def check_table(path: str | Path) -> None:
    """Checks that a table can be written to a path, before the work.

    Args:
        path: Target.

    Raises:
        ValueError: If pyarrow is not installed, or the name does not end in ``.parquet``.
        OSError: If its folder does not exist, or it is a folder.
    """
    _pyarrow()
    path = Path(path)
    if path.suffix != ".parquet":
        raise ValueError(f"a table is a .parquet file, got {path.name}")
    if not path.parent.is_dir():
        raise FileNotFoundError(2, "No such folder", str(path.parent))
    if path.is_dir():
        raise IsADirectoryError(21, "Is a folder, expected a file", str(path))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(f"a table needs pyarrow: pip install 'cardiojax[table]' ({error})") from error
    return pyarrow, pyarrow.parquet
