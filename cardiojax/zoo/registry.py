"""The model zoo: names, and how their modules are made."""

import dataclasses
import fnmatch
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from cardiojax.zoo.originals.download import Source


@runtime_checkable
class Model(Protocol):
    """A network of the zoo: a Flax Linen module, or a `cardiojax.models.NNXModel`."""

    def init(self, rngs: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Makes variables from a random key and an input."""
        ...

    def apply(self, variables: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Computes the output; that of a segmentation network has ``logits``."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A model of the zoo.

    Attributes:
        build: Makes the module; keyword arguments replace fields of its configuration. A configuration within it comes
            as a dictionary of fields, see `cardiojax.zoo.replace_fields`.
        input_shape: Shape of one batch of one image, or what it is for a module that `build` made.
        description: One line.
        weights: Stem of the packaged weight file and card, None for an architecture alone.
        layout: Key of `LAYOUTS` for checkpoints of the original project, None if there are none.
        paper: Where it was published.
        licence: Licence of the original code and weights.
        source: Where `fetch` finds the original weights; None if they have no address.
        instructions: How a person obtains those that have none.
    """

    build: Callable[..., Model]
    input_shape: tuple[int, ...] | Callable[[Any], tuple[int, ...]]
    description: str
    weights: str | None = None
    layout: str | None = None
    paper: str = ""
    licence: str = ""
    source: Source | None = None
    instructions: str = ""


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

    Example:
        >>> list_models("sam_*")
        ['sam_b', 'sam_h', 'sam_l', 'sam_med2d', 'sam_med3d']
    """
    return sorted(fnmatch.filter(_REGISTRY, pattern))


def create(name: str, **overrides: Any) -> Model:
    """Makes a model without weights.

    Args:
        name: A name of `list_models`.
        **overrides: Fields of the configuration to replace.

    Returns:
        The module.

    Raises:
        KeyError: If there is no such model.
        ValueError: If its configuration has no such field, or the field another type.

    Example:
        >>> create("unet_camus", features=(8, 16)).config.features
        (8, 16)
    """
    return entry(name).build(**overrides)


def input_shape(name: str, **overrides: Any) -> tuple[int, ...]:
    """Shape of the images for which a model is made.

    Args:
        name: A name of `list_models`.
        **overrides: Fields of the configuration to replace.

    Returns:
        ``(1, *size, channels)``.

    Raises:
        KeyError: If there is no such model.

    Example:
        >>> input_shape("unet_camus")
        (1, 224, 224, 1)
    """
    shape = entry(name).input_shape
    return shape(create(name, **overrides)) if callable(shape) else shape


def abstract_variables(name: str, **overrides: Any) -> PyTree:
    """Shapes of a model's variables, without computing anything.

    Args:
        name: A name of `list_models`.
        **overrides: Fields of the configuration to replace.

    Returns:
        The variables as `jax.ShapeDtypeStruct`.

    Example:
        >>> import jax
        >>> sum(leaf.size for leaf in jax.tree.leaves(abstract_variables("unet_camus")))
        1942340
    """
    image = jax.ShapeDtypeStruct(input_shape(name, **overrides), jnp.float32)
    model = create(name, **overrides)
    return jax.eval_shape(lambda image: model.init(jax.random.key(0), image), image)


def entry(name: str) -> Entry:
    """What the zoo knows of a model.

    Args:
        name: A name of `list_models`.

    Returns:
        Its entry.

    Raises:
        KeyError: If there is no such model.

    Example:
        >>> entry("sam_b").licence
        'Apache-2.0'
    """
    try:
        return _REGISTRY[name]
    except KeyError:
        raise KeyError(f"no model {name!r} in the zoo; there are {', '.join(list_models())}") from None
