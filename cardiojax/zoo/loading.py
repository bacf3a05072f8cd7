"""Models with their weights, packaged or from files, and their cards."""

import json
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from cardiojax import storage
from cardiojax.labels import Structures
from cardiojax.zoo.originals.convert import LAYOUTS, convert, read_checkpoint
from cardiojax.zoo.originals.download import download
from cardiojax.zoo.overrides import read_overrides, write_overrides
from cardiojax.zoo.registry import Model, abstract_variables, create, entry, input_shape, list_models
from cardiojax.zoo.weights import (
    WeightsError,
    check_shapes,
    flatten,
    load_weights,
    printable,
    read_metadata,
    read_safetensors,
    save_weights,
)

#: Largest number of a configuration in a file: a model with more blocks would be traced for minutes.
_MAX_FIELD = 4096


class _Stated(NamedTuple):
    """What a weight file says of itself."""

    model: str | None = None
    overrides: Mapping[str, Any] = {}
    card: Mapping[str, Any] = {}


def load(name: str | Path, *, weights: str | Path | None = None, **overrides: Any) -> tuple[Model, PyTree]:
    """Loads a model with its weights.

    Nothing is downloaded: weights that are not packaged are those that `fetch` converted before.

    Args:
        name: A name of `list_models`, or a file that `save` wrote, which knows its model.
        weights: A weight file for the named model; the packaged or fetched one if not given.
        **overrides: Fields of the configuration to replace; those that a file of `save` states need not be given.

    Returns:
        The module and its variables in float32: ``model.apply(variables, images)``.

    Raises:
        KeyError: If there is no such model.
        ValueError: If its configuration has no such field, or the field another type.
        WeightsError: If it has no weights, or they do not fit.

    Example:
        >>> model, variables = load("unet_camus", dtype="bfloat16")
        >>> jax.eval_shape(model.apply, variables, jnp.zeros((2, 224, 224, 1))).logits.shape
        (2, 224, 224, 4)
    """
    name, source, stated = _resolve(name, weights)
    fields = {**stated.overrides, **overrides}
    if source is None:
        path = _packaged(name)
        abstract = abstract_variables(name, **fields)["params"] if fields else None  # ours: not traced to be compared
    else:
        path, abstract = Path(source), _abstract_params(source, name, fields, stated)
    return create(name, **fields), {"params": load_weights(path, abstract)}


def save(
    path: str | Path,
    name: str,
    params: PyTree,
    *,
    file_dtype: str = "float32",
    card: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> None:
    """Writes weights into a file that `load` opens by itself.

    Args:
        path: Target file, ``.safetensors``.
        name: A name of `list_models`.
        params: The model's parameters.
        file_dtype: Type of the numbers in the file, see `save_weights`.
        card: What `cardiojax.zoo.card` shall say of them, as JSON: ``data``, ``licence``, ``scores``, ...
        **overrides: Fields of the configuration that were replaced: numbers, text, tuples, configurations.

    Raises:
        KeyError: If there is no such model.
        ValueError: If JSON cannot write a field or the card.
        WeightsError: If the parameters are not those of this model, or are not finite.

    Example:
        >>> import tempfile
        >>> import jax
        >>> from cardiojax import zoo
        >>> model = zoo.create("unet_camus", features=(8, 16))
        >>> params = model.init(jax.random.key(0), jax.numpy.zeros((1, 32, 32, 1)))["params"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/mine.safetensors", "unet_camus", params, features=(8, 16), card={"licence": "mine"})
        ...     model, variables = zoo.load(f"{folder}/mine.safetensors")
        >>> model.config.features
        (8, 16)
    """
    text = write_overrides(overrides)
    abstract = abstract_variables(name, **read_overrides(text))["params"]
    check_shapes(path, flatten(params), flatten(abstract))
    metadata = {"model": name, "overrides": text, "card": write_overrides(card or {})}
    save_weights(path, params, dtype=file_dtype, metadata=metadata)


def load_original(name: str, path: str | Path, **overrides: Any) -> PyTree:
    """Reads a checkpoint of the project that published a model.

    Args:
        name: A name of `list_models`.
        path: Its ``.pth`` or ``.safetensors`` file; nothing in it is executed.
        **overrides: Fields of the configuration to replace.

    Returns:
        The variables in float32.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If the file cannot be read or does not fit to the last key; the first mismatch is named.
    """
    layout = entry(name).layout
    if layout is None:
        raise WeightsError(f"no other project's checkpoints are known for {name}")
    abstract = abstract_variables(name, **overrides)["params"]
    return {"params": convert(read_checkpoint(path), abstract, layout=LAYOUTS[layout], source=str(path))}


def fetch(name: str, *, folder: str | Path | None = None) -> Path:
    """Downloads the original weights of a model, checks them and converts them, once.

    Args:
        name: A name of `list_models`.
        folder: Where the converted weights are kept; that in which `load` looks if not given.

    Returns:
        The weight file. One that is there already is not downloaded again.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If its weights are packaged or have no address, or cannot be downloaded or converted.
        OSError: If the folder cannot be written.
    """
    source, folder = entry(name).source, storage.user_cache_folder() if folder is None else Path(folder)
    path = folder / f"{name}.safetensors"
    if entry(name).weights is not None:
        raise WeightsError(f"the weights of {name} are packaged; zoo.load({name!r}) needs no download")
    if source is None:
        raise WeightsError(_without_weights(name))
    if path.exists():
        return path
    downloads = folder / ".downloads"
    with storage.lock_folder(folder):
        try:
            shutil.rmtree(downloads, ignore_errors=True)  # what a killed process left
            params = load_original(name, download(source, downloads))["params"]
            save(path, name, params, card={"converted_from": source.url, "checksum": source.checksum})
        finally:
            shutil.rmtree(downloads, ignore_errors=True)
    return path


def load_bank(name: str | Path) -> np.ndarray:
    """Loads the bank of an autoencoder: codes that decode to anatomically valid shapes.

    Args:
        name: A name of `list_models`, for the packaged bank; or a file that ``cardiojax densify`` packed.

    Returns:
        Codes in half precision, ``[n, d]``.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If it has no bank.

    Example:
        >>> load_bank("cvae_camus").shape
        (4096, 16)
    """
    path = Path(name) if _is_file(name) else _weights_folder() / f"{entry(str(name)).weights}_bank.safetensors"
    arrays = read_safetensors(path)
    if "codes" not in arrays:
        raise WeightsError(f"{path}: holds no codes")
    return arrays["codes"]


def card(name: str | Path, *, weights: str | Path | None = None, count: bool = True) -> dict[str, Any]:
    """The card of a model: paper, licence, size, cost, and for packaged weights data, command, seed and scores.

    Args:
        name: A name of `list_models`, or a file that `save` wrote: what was given to it is part of the card.
        weights: A weight file for the named model; the packaged or fetched one if not given.
        count: Whether parameters and operations are counted, for which the model is traced.

    Returns:
        What is known, as JSON-like values; ``flops`` is the forward pass of one image of ``input_shape``, a
        multiplication and an addition counted apart.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If the file cannot be read or does not say which model it is for.

    Example:
        >>> card("unet_camus", count=False)["licence"]
        'CC BY-NC-SA 4.0'
    """
    name, source, stated = _resolve(name, weights)
    if source is not None:
        _abstract_params(source, name, stated.overrides, stated)
    registered = entry(name)
    known = {
        "name": name,
        "description": registered.description if source is None or not (registered.weights or stated.overrides) else "",
        "paper": registered.paper,
        "licence": registered.licence,
        "input_shape": list(input_shape(name, **stated.overrides)),
        **(_counts(name, stated.overrides) if count else {}),
    }
    known = {key: value for key, value in known.items() if value not in ("", None)}
    if source is not None:
        return {**known, **stated.card, "name": name, "file": str(source), "overrides": stated.overrides}
    if registered.weights is None:
        return known
    return {**known, **json.loads(_packaged(name).with_suffix(".json").read_text(encoding="utf-8"))}


def weights_path(name: str | Path) -> Path:
    """Finds the file that `load` reads the weights of a model from.

    Args:
        name: A name of `list_models`, or a file that `save` wrote.

    Returns:
        Its path; it may be absent.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If it has no weights, or the file does not say which model it is for.

    Example:
        >>> weights_path("unet_camus").name
        'unet_camus.safetensors'
    """
    name, source, _ = _resolve(name, None)
    return _packaged(name) if source is None else Path(source)


def load_structures(name: str | Path, *, weights: str | Path | None = None) -> Structures | None:
    """Reads what the classes of a segmentation network are.

    Args:
        name: A name of `list_models`, or a file that `save` wrote.
        weights: A weight file for the named model; the packaged or fetched one if not given.

    Returns:
        The structures that its card names; None if it names none.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If the file cannot be read, or names structures that cannot be.

    Example:
        >>> load_structures("unet_camus") is None  # its classes are those of `cardiojax.labels.CAMUS`
        True
    """
    _, source, stated = _resolve(name, weights)
    names = stated.card.get("structures")
    if names is None:
        return None
    try:
        return Structures(tuple(names))
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{source}: names structures that cannot be ({printable(str(error))})") from None


def _counts(name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    variables = abstract_variables(name, **overrides)
    image = jax.ShapeDtypeStruct(input_shape(name, **overrides), jnp.float32)
    cost = jax.jit(create(name, **overrides).apply).lower(variables, image).cost_analysis()
    num_params = sum(leaf.size for leaf in jax.tree.leaves(variables))
    return {"num_params": num_params, "flops": int(cost["flops"]) if cost else None}


def _resolve(name: str | Path, weights: str | Path | None) -> tuple[str, str | Path | None, _Stated]:
    """The name of a model, the file of its weights if they are not the packaged ones, and what that file states."""
    source = name if _is_file(name) else weights
    if source is None and name in list_models() and entry(str(name)).source is not None:
        fetched = storage.user_cache_folder() / f"{name}.safetensors"
        source = fetched if fetched.is_file() else None
    if source is None:
        return str(name), None, _Stated()
    stated = _read_stated(source)
    if not _is_file(name):
        return str(name), source, stated
    if stated.model is None:
        raise WeightsError(
            f"{name}: does not say which model it is for, expected a file that cardiojax train, cardiojax zoo convert "
            f'or zoo.save wrote; zoo.load(MODEL, weights="{name}") reads it in Python'
        )
    return stated.model, source, stated


def _read_stated(path: str | Path) -> _Stated:
    metadata = read_metadata(path)
    try:
        fields, card = (read_overrides(metadata.get(key, "{}")) for key in ("overrides", "card"))
        if numbers := [number for number in jax.tree.leaves(fields) if isinstance(number, int) and number > _MAX_FIELD]:
            raise ValueError(f"{numbers[0]} is over {_MAX_FIELD}")
    except ValueError as error:
        raise WeightsError(
            f"{path}: states fields of its model that cannot be read ({printable(str(error))})"
        ) from None
    return _Stated(metadata.get("model"), fields, card)


def _abstract_params(path: str | Path, name: str, fields: Mapping[str, Any], stated: _Stated) -> PyTree:
    """Shapes of the parameters of a model with the fields that a file states."""
    if stated.model is None:
        return abstract_variables(name, **fields)["params"]
    if name not in list_models():
        raise WeightsError(f"{path}: is for the model {printable(name)!r}, which the zoo lacks; register it first")
    try:
        return abstract_variables(name, **fields)["params"]
    except Exception as error:  # the fields come from a file
        reason = printable(str(error).strip())
        raise WeightsError(f"{path}: no {name} can be made with its fields ({reason})") from None


def _is_file(name: str | Path) -> bool:
    """Whether a model is given as a file, of whatever name, and not by its own."""
    return Path(name).suffix == ".safetensors" or (str(name) not in list_models() and Path(name).is_file())


def _packaged(name: str) -> Path:
    stem = entry(name).weights
    if stem is None:
        raise WeightsError(_without_weights(name))
    return _weights_folder() / f"{stem}.safetensors"


def _without_weights(name: str) -> str:
    """How the weights of a model are obtained that are neither packaged nor fetched."""
    known = entry(name)
    if known.source is not None:
        return f"the weights of {name} are not packaged: 'cardiojax zoo fetch {name}' downloads {known.source.url}"
    if known.instructions:
        command = f"cardiojax zoo convert {name} FILE --out {name}.safetensors"
        return f"the weights of {name} are not packaged: {known.instructions}, then '{command}'"
    with_weights = ", ".join(n for n in list_models() if entry(n).weights)
    return f"{name} has no packaged weights; give a file, or use one of {with_weights}"


def _weights_folder() -> Path:
    return Path(str(resources.files("cardiojax.zoo") / "files"))
