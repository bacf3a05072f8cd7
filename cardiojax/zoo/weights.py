"""Weight files: flat safetensors in half precision, checked leaf by leaf when they are loaded."""

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
    flat = {name: np.ascontiguousarray(np.asarray(leaf).astype(dtype)) for name, leaf in _flatten(params).items()}
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(save(flat, metadata=metadata))
    temporary.replace(path)


def load_weights(path: str | Path, abstract_params: PyTree) -> PyTree:
    """Reads parameters as float32.

    Args:
        path: File written by `save_weights`.
        abstract_params: The expected tree, as `jax.eval_shape` gives it.

    Returns:
        The parameters.

    Raises:
        WeightsError: If the file is missing, damaged, or does not fit the model; the first mismatch is named.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file")
    try:
        flat = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
    expected = _flatten(abstract_params)
    for name in sorted({*flat, *expected}):
        if name not in flat:
            raise WeightsError(f"{path}: the model needs {name}, which the file lacks")
        if name not in expected:
            raise WeightsError(f"{path}: the file holds {name}, which the model lacks")
        if flat[name].shape != expected[name].shape:
            raise WeightsError(f"{path}: {name} has shape {flat[name].shape}, the model needs {expected[name].shape}")
        if not np.isfinite(flat[name]).all():
            raise WeightsError(f"{path}: {name} holds values that are not finite")
    _, treedef = jax.tree.flatten(abstract_params)
    return treedef.unflatten([jnp.asarray(flat[name], jnp.float32) for name in expected])


def load_codes(path: str | Path) -> np.ndarray:
    """Reads the codes of a packaged bank.

    Args:
        path: File written by `save_weights` from ``{"codes": codes}``.

    Returns:
        Codes ``[n, d]`` in the type of the file.

    Raises:
        WeightsError: If the file is missing or holds no codes.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such bank of codes")
    try:
        return load_file(path)["codes"]
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path}: not a bank of codes ({error})") from error


def _flatten(params: PyTree) -> dict:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(str(key.key) for key in path): leaf for path, leaf in leaves}
