"""Tables of datasets, CSV and XLSX, with limits, and masks from outlines."""

import contextlib
import csv
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from cardiojax.data.formats.common import UnreadableFileError
from cardiojax.data.formats.quiet import quiet_decoders

#: Bytes of a table; the largest, of the tracings of 10,030 videos, has 35 million.
_MAX_BYTES = 2**28
_MAX_SHEET_BYTES = 2**26
_MAX_ROWS = 2**22


def read_csv(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Reads a CSV with a head.

    Args:
        path: The file.
        columns: Those that it must have.

    Returns:
        The rows by column, stripped of blanks at both ends.

    Raises:
        UnreadableFileError: If it is missing, too large, no CSV, or lacks a column.
    """
    if not path.is_file():
        raise UnreadableFileError(path, "is missing")
    if path.stat().st_size > _MAX_BYTES:
        raise UnreadableFileError(path, f"has {path.stat().st_size} bytes, expected at most {_MAX_BYTES}")
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    try:
        reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        head = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = head
        rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    except csv.Error as error:
        raise UnreadableFileError(path, "is no CSV ({stated})", stated=str(error)) from error
    _require_columns(path, head, columns)
    return rows


def read_xlsx(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Reads the first sheet of a workbook.

    Args:
        path: The file.
        columns: Those that the first row must name; compared without blanks and case.

    Returns:
        The rows by the name of the column as asked for, as text.

    Raises:
        UnreadableFileError: If it is missing, too large, damaged, or lacks a column, or openpyxl is not installed.
    """
    if not path.is_file():
        raise UnreadableFileError(path, "is missing")
    try:
        import openpyxl
    except ImportError as error:
        raise UnreadableFileError(path, "needs the package openpyxl: pip install 'cardiojax[xlsx]'") from error
    try:
        with zipfile.ZipFile(path) as archive:  # no member is read beyond the size that it states
            size = sum(member.file_size for member in archive.infolist())
        if size > _MAX_SHEET_BYTES:
            raise UnreadableFileError(path, f"unpacks to {size} bytes, expected at most {_MAX_SHEET_BYTES}")
        # openpyxl prints the number of a style that is not there
        with quiet_decoders(), contextlib.redirect_stdout(io.StringIO()), path.open("rb") as file:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheet = book.worksheets[0].iter_rows(values_only=True, max_row=_MAX_ROWS)
            head, *cells = [[_text(cell) for cell in row] for row in sheet if any(cell is not None for cell in row)]
    except UnreadableFileError:
        raise
    except Exception as error:  # openpyxl raises many kinds for a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnreadableFileError(path, "is no readable workbook ({stated})", stated=reason) from error
    wanted = list(columns)
    plain = [_plain(name) for name in head]
    _require_columns(path, plain, map(_plain, wanted))
    index = {name: plain.index(_plain(name)) for name in wanted}
    return [{name: row[i] if i < len(row) else "" for name, i in index.items()} for row in cells]


def fill_polygon(
    rows: Float[np.ndarray, " n"], cols: Float[np.ndarray, " n"], shape: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """Fills a polygon, as ``skimage.draw.polygon`` does: its vertices and edges belong to it.

    Args:
        rows: Whole numbers, row of each vertex in order.
        cols: Its column.
        shape: Height and width of the mask; what lies outside is cut.

    Returns:
        The mask.

    References:
        O'Rourke, "Computational Geometry in C", 1998, section 7.4.

    Example:
        >>> fill_polygon(np.array([0.0, 0.0, 2.0]), np.array([0.0, 2.0, 0.0]), (3, 3)).astype(int).tolist()
        [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    """
    mask = np.zeros(shape, bool)
    top, left = (max(int(c.min()), 0) for c in (rows, cols))
    bottom, right = (min(int(c.max()) + 1, n) for c, n in zip((rows, cols), shape, strict=True))
    if top >= bottom or left >= right:
        return mask
    y, x = np.mgrid[top:bottom, left:right][:, None].astype(float)
    y0, x0, y1, x1 = (each[:, None, None] for each in (rows, cols, np.roll(rows, -1), np.roll(cols, -1)))
    side = np.sign((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) * np.sign(y1 - y0)  # of the edge, 1 if it lies right
    crossed_right = (((y0 > y) != (y1 > y)) & (side > 0)).sum(0) % 2 == 1
    crossed_left = (((y0 < y) != (y1 < y)) & (side < 0)).sum(0) % 2 == 1
    is_vertex = ((x == x0) & (y == y0)).any(0)
    mask[top:bottom, left:right] = crossed_right | crossed_left | is_vertex
    return mask


def _text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else str(cell).strip()


def _plain(name: str) -> str:
    return "".join(name.split()).casefold()


def _require_columns(path: Path, head: Iterable[str], columns: Iterable[str]) -> None:
    if missing := [name for name in columns if name not in head]:
        raise UnreadableFileError(path, f"lacks the column {missing[0]}")
