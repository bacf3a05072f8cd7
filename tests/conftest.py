"""Shared by all tests: the folders of real data, compiler options, parameters of a model without initialisation."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Before JAX starts: with a compilation cache, XLA reports its own tuning flags as missing features of the processor at
# each load (https://github.com/jax-ml/jax/issues/38445).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import settings

from cardiojax import runtime

settings.register_profile("cardiojax", deadline=None)  # the first example compiles
settings.load_profile("cardiojax")


def _known_flags(*flags: str) -> str:
    """Those of the flags of XLA that this release knows: an unknown one ends the process."""
    code, quiet = "import jax; jax.devices()", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    tries = [subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "XLA_FLAGS": f}, **quiet) for f in flags]
    return " ".join(flag for flag, process in zip(flags, tries, strict=True) if process.wait() == 0)


# Most of the time of a run is LLVM's: compile with less effort, and each program in one part, since the test processes
# take all cores. Set before JAX starts; worker processes inherit it.
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = _known_flags(
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    )

# The processes of a run share what they compile: many files need the same programs. It goes when the run ends.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="cardiojax-tests-")
    for _name, _value in (("compilation_cache_dir", _programs.name), ("persistent_cache_min_compile_time_secs", 0.3)):
        jax.config.update(f"jax_{_name}", _value)
        os.environ[f"JAX_{_name.upper()}"] = str(_value)

# Weights that a user has fetched would change what `zoo.load` finds.
os.environ["CARDIOJAX_CACHE"] = os.path.join(tempfile.gettempdir(), "cardiojax-tests-no-weights")

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


@pytest.fixture(scope="session")
def fill():
    """Gives a tree of shapes reproducible numbers of a network's size, so that nothing compiles an initialisation."""

    def fill_tree(abstract, seed: int = 0):
        rng = np.random.default_rng(seed)

        def fill_leaf(path, leaf):
            name = str(path[-1].key)
            if name == "scale":
                return jnp.asarray(1 + 0.1 * rng.normal(size=leaf.shape), leaf.dtype)
            fan_in = np.prod(leaf.shape[:-1]) if name == "kernel" else 25
            return jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(fan_in), leaf.dtype)

        return jax.tree_util.tree_map_with_path(fill_leaf, abstract)

    return fill_tree


@pytest.fixture(scope="session")
def kernels(tmp_path_factory) -> Path:
    """The library of compiled kernels, registered."""
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("there is no C++ compiler")
    return runtime.build_kernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Drops a file's compiled programs after it: kept, those of the whole suite take several gigabytes."""
    yield
    jax.clear_caches()
