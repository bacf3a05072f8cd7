"""What every test shares: where real data lies, and Hypothesis without a stopwatch."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("cardiojax", deadline=None)  # the first example compiles
settings.load_profile("cardiojax")

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"needs the data described in the README: set {variable} (looked in {folder})")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real CAMUS images and masks and echo loops; they are not part of the project."""
    return _folder("CARDIOJAX_DATA", _SHARED / "data")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Outputs of the original authors' code; they are not part of the project."""
    return _folder("CARDIOJAX_GOLDEN", _SHARED / "golden")
