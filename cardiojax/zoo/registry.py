"""The model zoo: names, cards, and packaged weights."""

import dataclasses
import fnmatch
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from cardiojax.models import Module
from cardiojax.zoo.convert import LAYOUTS, convert, read_checkpoint
from cardiojax.zoo.weights import WeightsError, load_weights, read_metadata, read_safetensors, save_weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A model of the zoo.

    Attributes:
        build: Makes the module; keyword arguments replace fields of its configuration.
        input_shape: Shape of one batch of one image, to count parameters.
        description: One line.
        weights: Stem of the packaged weight file and card, None for an architecture alone.
        layout: Key of `LAYOUTS` for checkpoints of the original project, None if there are none.
        paper: Where it was published.
        licence: Licence of the original code and weights.
    """

    build: Callable[..., Module]
    input_shape: tuple[int, ...]
    description: str
    weights: str | None = None
    layout: str | None = None
    paper: str = ""
    licence: str = ""


_REGISTRY: dict[str, Entry] = {}


def register(name: str, entry: Entry) -> None:
    """Adds a model to the zoo of this process, for other projects' models.

    Args:
        name: A name that is not taken.
        entry: The model.

    Raises:
        ValueError: If the name is taken.
    """
    if name in _REGISTRY:
        raise ValueError(f"the zoo has a model {name!r} already")
    _REGISTRY[name] = entry


def list_models(pattern: str = "*") -> list[str]:
    """Names in the zoo.

    Args:
        pattern: A shell-style pattern.

    Returns:
        Names in alphabetical order.
    """
    return sorted(fnmatch.filter(_REGISTRY, pattern))


def create(name: str, **overrides: Any) -> Module:
    """Makes a model without weights.

    Args:
        name: A name of `list_models`.
        **overrides: Fields of the configuration to replace.

    Returns:
        The Flax module.

    Raises:
        KeyError: If there is no such model.
    """
    return entry(name).build(**overrides)


def abstract_variables(name: str, **overrides: Any) -> PyTree:
    """Shapes of a model's variables, without computing anything.

    Args:
        name: A name of `list_models`.
        **overrides: Fields of the configuration to replace.

    Returns:
        The variables as `jax.ShapeDtypeStruct`.
    """
    image = jax.ShapeDtypeStruct(entry(name).input_shape, jnp.float32)
    model = create(name, **overrides)
    return jax.eval_shape(lambda image: model.init(jax.random.key(0), image), image)


def load(name: str | Path, *, weights: str | Path | None = None) -> tuple[Module, PyTree]:
    """Loads a model with its weights.

    Args:
        name: A name of `list_models`, or a file that `save` wrote, which knows its model.
        weights: A weight file for the named model; the packaged one if not given.

    Returns:
        The Flax module and its variables in float32: ``model.apply(variables, images)``.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If it has no weights, or they do not fit.
    """
    overrides: dict[str, Any] = {}
    if Path(name).suffix == ".safetensors":
        weights, metadata = Path(name), read_metadata(name)
        if "model" not in metadata:
            raise WeightsError(f"{name}: does not say which model it is for; give its name and the file as weights")
        name, overrides = metadata["model"], _tuples(json.loads(metadata["overrides"]))
    name = str(name)
    if weights is None:
        stem = entry(name).weights
        if stem is None:
            raise WeightsError(f"{name} has no packaged weights; give a file, or use one of {_with_weights()}")
        params = load_weights(_weights_folder() / f"{stem}.safetensors")  # ours: not traced to be compared
    else:
        params = load_weights(weights, abstract_variables(name, **overrides)["params"])
    return create(name, **overrides), {"params": params}


def save(path: str | Path, name: str, params: PyTree, *, dtype: str = "float32", **overrides: Any) -> None:
    """Writes weights into a file that `load` opens without further words.

    Args:
        path: Target file, ``.safetensors``.
        name: A name of `list_models`.
        params: The model's parameters.
        dtype: Type in the file.
        **overrides: Fields of the configuration that were replaced, as JSON can write them.
    """
    save_weights(path, params, dtype=dtype, metadata={"model": name, "overrides": json.dumps(overrides)})


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


def load_bank(name: str | Path) -> np.ndarray:
    """Loads the bank of an autoencoder: codes that decode to plausible hearts.

    Args:
        name: A name of `list_models`, for the packaged bank; or a file that ``cardiojax densify`` packed.

    Returns:
        Codes in half precision, ``[n, d]``.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If it has no bank.
    """
    is_file = Path(name).suffix == ".safetensors"
    path = Path(name) if is_file else _weights_folder() / f"{entry(str(name)).weights}_bank.safetensors"
    arrays = read_safetensors(path)
    if "codes" not in arrays:
        raise WeightsError(f"{path}: holds no codes")
    return arrays["codes"]


def card(name: str, *, count: bool = True) -> dict[str, Any]:
    """The card of a model: paper, licence, size, cost, and for packaged weights data, command, seed and scores.

    Args:
        name: A name of `list_models`.
        count: Whether parameters and operations are counted, for which the model is traced.

    Returns:
        What is known, as JSON-like values; ``flops`` is the forward pass of one image of ``input_shape``, a
        multiplication and an addition counted apart.

    Raises:
        KeyError: If there is no such model.
    """
    facts = entry(name)
    known = {
        "name": name,
        "description": facts.description,
        "paper": facts.paper,
        "licence": facts.licence,
        "input_shape": list(facts.input_shape),
        **(_counts(name) if count else {}),
    }
    known = {key: value for key, value in known.items() if value not in ("", None)}
    if facts.weights is None:
        return known
    path = _weights_folder() / f"{facts.weights}.json"
    return {**known, **json.loads(path.read_text(encoding="utf-8"))}


def _counts(name: str) -> dict[str, Any]:
    variables = abstract_variables(name)
    image = jax.ShapeDtypeStruct(entry(name).input_shape, jnp.float32)
    cost = jax.jit(create(name).apply).lower(variables, image).cost_analysis()
    num_params = sum(leaf.size for leaf in jax.tree.leaves(variables))
    return {"num_params": num_params, "flops": int(cost["flops"]) if cost else None}


def entry(name: str) -> Entry:
    """What the zoo knows of a model.

    Args:
        name: A name of `list_models`.

    Returns:
        Its entry.

    Raises:
        KeyError: If there is no such model.
    """
    try:
        return _REGISTRY[name]
    except KeyError:
        raise KeyError(f"no model {name!r} in the zoo; there are {', '.join(list_models())}") from None


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _with_weights() -> str:
    return ", ".join(n for n in list_models() if _REGISTRY[n].weights)


def _weights_folder() -> Path:
    return Path(str(resources.files("cardiojax.zoo") / "files"))
