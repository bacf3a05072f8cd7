"""Weight files: flat safetensors in half precision, checked leaf by leaf when they are loaded."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


class WeightsError(Exception):
    """A weight file cannot be used, in one sentence."""


def save_weights(
    path: str | Path, params: PyTree, *, dtype: str = "float16", metadata: dict[str, str] | None = None
) -> None:
    """Writes parameters, whole or not at all.

    Args:
        path: Target file, ``.safetensors``.
        params: Nested dictionaries of arrays.
        dtype: Type in the file.
        metadata: Text to keep beside the arrays.
    """
    from safetensors.numpy import save

    path = Path(path)
    flat = {name: np.asarray(leaf).astype(dtype, order="C") for name, leaf in flatten(params).items()}
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(save(flat, metadata=metadata))
    temporary.replace(path)


def load_weights(path: str | Path, abstract_params: PyTree | None = None) -> PyTree:
    """Reads parameters as float32.

    Args:
        path: File written by `save_weights`.
        abstract_params: The expected tree, as `jax.eval_shape` gives it; the file is trusted if not given.

    Returns:
        The parameters.

    Raises:
        WeightsError: If the file is missing, damaged, or does not fit the model; the first mismatch is named.
    """
    flat = read_safetensors(path)
    expected = flat if abstract_params is None else flatten(abstract_params)
    for name in sorted({*flat, *expected}):
        if name not in flat:
            raise WeightsError(f"{path}: the model needs {name}, which the file lacks")
        if name not in expected:
            raise WeightsError(f"{path}: the file holds {name}, which the model lacks")
        if flat[name].shape != expected[name].shape:
            raise WeightsError(f"{path}: {name} has shape {flat[name].shape}, the model needs {expected[name].shape}")
        if not np.isfinite(flat[name]).all():
            raise WeightsError(f"{path}: {name} holds values that are not finite")
    params: dict = {}
    for name in expected:
        *folders, last = name.split("/")
        functools.reduce(lambda tree, key: tree.setdefault(key, {}), folders, params)[last] = jnp.asarray(
            flat[name].astype(np.float32)
        )
    return params


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a ``.safetensors`` file.

    Args:
        path: The file.

    Returns:
        Name to array.

    Raises:
        WeightsError: If the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """Reads the text beside the arrays of a ``.safetensors`` file.

    Args:
        path: The file.

    Returns:
        Name to text.

    Raises:
        WeightsError: If the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such weight file")
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error


def flatten(params: PyTree) -> dict:
    """Names the leaves of nested dictionaries by their paths, with slashes."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(str(key.key) for key in path): leaf for path, leaf in leaves}
