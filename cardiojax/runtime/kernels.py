"""Compilation of the package's C++ kernels by the compiler of this machine."""

import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import jax

from cardiojax import ops, storage
from cardiojax.runtime.aot import cache_folder, make_private, require_private

#: Tried in this order where ``CXX`` names none.
_COMPILERS = ("g++", "clang++", "c++")
#: Contracted products and sums are what the kernels' speed comes from; sums keep their order.
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared")


def build_kernels(parent: str | Path | None = None) -> Path:
    """Compiles the kernels behind ``implementation="native"`` for this processor, if need be, and registers them.

    It takes a few seconds, once for a version of the package, of jaxlib and of the compiler.

    Args:
        parent: A folder for the libraries of all processors; ``kernels`` in the user's cache folder if not given.

    Returns:
        The shared library.

    Raises:
        RuntimeError: If there is no C++ compiler, or if it fails.
        ValueError: If the folder cannot be written to, or if other users can write to it.

    Example:
        >>> build_kernels()  # doctest: +SKIP
        >>> model = models.UNet(implementation="native")  # doctest: +SKIP
    """
    compiler = _compiler()
    command = [*compiler, *_FLAGS, "-isystem", jax.ffi.include_dir()]
    parent = storage.user_cache_folder() / "kernels" if parent is None else Path(parent)
    try:
        library = make_private(cache_folder(parent)) / f"kernels-{_fingerprint(command)}.so"
        if not library.exists():
            _compile(command, library)
    except OSError as error:
        raise ValueError(f"{parent} cannot hold compiled kernels ({error.strerror})") from error
    require_private(library)
    ops.register_kernels(library)
    return library


def _compiler() -> list[str]:
    if named := shlex.split(os.environ.get("CXX", "")):
        if shutil.which(named[0]) is None:
            raise RuntimeError(f"there is no C++ compiler {named[0]!r}, which the environment variable CXX names")
        return named
    for name in _COMPILERS:
        if path := shutil.which(name):
            return [path]
    raise RuntimeError(f'implementation="native" needs a C++ compiler: none of {", ".join(_COMPILERS)} was found')


def _fingerprint(command: list[str]) -> str:
    """Of the source, the command and the compiler's version."""
    version = subprocess.run([command[0], "--version"], capture_output=True, check=False).stdout
    return hashlib.sha256(b"\0".join((ops.KERNEL_SOURCE.read_bytes(), repr(command).encode(), version))).hexdigest()[
        :16
    ]


def _compile(command: list[str], library: Path) -> None:
    """Compiles into a file beside the target, which then takes its name: another process never loads half a library."""
    part = library.with_suffix(f".{os.getpid()}.tmp")
    try:
        result = subprocess.run(
            [*command, str(ops.KERNEL_SOURCE), "-o", str(part)], capture_output=True, text=True, check=False
        )
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if "error" in line] or ["no message"]
            raise RuntimeError(f"{command[0]} cannot compile the kernels: {lines[0]}")
        part.chmod(0o700)
        part.replace(library)
    finally:
        part.unlink(missing_ok=True)
