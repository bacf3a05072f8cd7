"""Compilation of the package's C++ kernels by the compiler of this machine."""

import hashlib
import os
import secrets
import shlex
import shutil
import subprocess
from pathlib import Path

import jax

from cardiojax import ops, storage
from cardiojax.runtime.aot import cache_folder, can_be_replaced, make_private, require_private

#: Tried in this order where ``CXX`` names none.
_COMPILERS = ("g++", "clang++", "c++")
#: Contracted products and sums are what the kernels' speed comes from; sums keep their order.
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared")


def build_kernels(parent: str | Path | None = None) -> Path:
    """Compiles the kernels behind ``implementation="native"`` for this processor, if need be, and registers them.

    It takes five seconds, once for a version of the package, of jaxlib and of the compiler. Tried on Linux, x86-64,
    with GCC.

    Args:
        parent: A folder for the libraries of all processors; ``kernels`` in the user's cache folder if not given.

    Returns:
        The shared library.

    Raises:
        RuntimeError: If there is no C++ compiler, or if it fails.
        ValueError: If the folder cannot be written to, or if other users could put another library there.

    Example:
        >>> build_kernels()  # doctest: +SKIP
        >>> model = models.UNet(implementation="native")  # doctest: +SKIP
    """
    compiler = _compiler()
    parent = Path(storage.user_cache_folder() / "kernels" if parent is None else parent).resolve()
    try:
        folder = make_private(cache_folder(parent))
    except OSError as error:
        raise ValueError(f"{parent} cannot hold compiled kernels ({error.strerror})") from error
    if can_be_replaced(parent):
        raise ValueError(f"another user could replace {parent}, whose libraries would be run; choose another folder")
    library = folder / f"kernels-{_fingerprint(compiler)}.so"
    if not library.exists():
        _compile(compiler, library)
    require_private(library)
    ops.register_kernels(library)
    return library


def _compiler() -> list[str]:
    """The command that compiles to a shared library, without source and target."""
    try:
        named = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise RuntimeError(f"the environment variable CXX is no command: {error}") from error
    if named and shutil.which(named[0]) is None:
        raise RuntimeError(f"there is no C++ compiler {named[0]!r}, which the environment variable CXX names")
    found = named or [path for name in _COMPILERS if (path := shutil.which(name))][:1]
    if not found:
        raise RuntimeError(f'implementation="native" needs a C++ compiler: none of {", ".join(_COMPILERS)} was found')
    return found


def _options() -> list[str]:
    return [*_FLAGS, "-isystem", jax.ffi.include_dir()]


def _fingerprint(compiler: list[str]) -> str:
    """Of the sources, the command and the compiler's version."""
    folder = ops.KERNEL_SOURCES[0].parent
    files = sorted(path for path in folder.iterdir() if path.suffix in (".cc", ".h"))
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=False).stdout
    parts = [*(path.read_bytes() for path in files), repr([*compiler, *_options()]).encode(), version]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _compile(compiler: list[str], library: Path) -> None:
    """Compiles into a file beside the target, which then takes its name: nobody loads half a library."""
    part = library.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}.tmp")
    command = [*compiler, *_options(), *map(str, ops.KERNEL_SOURCES), "-o", str(part)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode or not part.exists():
            lines = [line for line in result.stderr.splitlines() if "error:" in line] or ["no message"]
            raise RuntimeError(f"{shlex.join(compiler)} cannot compile the kernels: {lines[0]}")
        part.chmod(0o700)
        part.replace(library)
    finally:
        part.unlink(missing_ok=True)
