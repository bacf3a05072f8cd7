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
from jaxtyping import PyTree

from cardiojax.models import CRISP, CRISP_PRESETS, UNET_PRESETS, VAE, VAE_PRESETS, Module, UNet
from cardiojax.zoo.weights import WeightsError, load_weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A model of the zoo.

    Attributes:
        build: Makes the module; keyword arguments replace fields of its configuration.
        input_shape: Shape of one batch of one image, to count parameters.
        other_shapes: Shapes of further inputs.
        description: One line.
        weights: Stem of the packaged weight file and card, None for an architecture alone.
    """

    build: Callable[..., Module]
    input_shape: tuple[int, ...]
    description: str
    weights: str | None = None
    other_shapes: tuple[tuple[int, ...], ...] = ()


def _unet(preset: str) -> Callable[..., Module]:
    return lambda **overrides: UNet(dataclasses.replace(UNET_PRESETS[preset], **overrides))


def _vae(preset: str) -> Callable[..., Module]:
    return lambda **overrides: VAE(dataclasses.replace(VAE_PRESETS[preset], **overrides))


def _crisp(preset: str) -> Callable[..., Module]:
    return lambda **overrides: CRISP(dataclasses.replace(CRISP_PRESETS[preset], **overrides))


_REGISTRY: dict[str, Entry] = {
    "unet": Entry(build=_unet("unet"), input_shape=(1, 224, 224, 1), description="U-Net, instance norm, 1.9 M"),
    "unet_lecture": Entry(
        build=_unet("unet_lecture"), input_shape=(1, 224, 224, 1), description="U-Net without normalisation, ReLU"
    ),
    "unet_camus": Entry(
        build=_unet("unet"),
        input_shape=(1, 224, 224, 1),
        description="U-Net trained on CAMUS, apical 2- and 4-chamber views",
        weights="unet_camus",
    ),
    "crisp_paper": Entry(
        build=_crisp("crisp_paper"),
        input_shape=(1, 256, 256, 1),
        other_shapes=((1, 256, 256, 4),),
        description="CRISP with the sizes of Judge et al. 2022",
    ),
    "crisp_camus": Entry(
        build=_crisp("crisp_camus"),
        input_shape=(1, 128, 128, 1),
        other_shapes=((1, 64, 64, 4),),
        description="CRISP: images and heart shapes in one latent space, with the codes of the CAMUS training masks",
        weights="crisp_camus",
    ),
    "cvae_paper": Entry(
        build=_vae("cvae_paper"),
        input_shape=(1, 256, 256, 4),
        description="Constrained VAE with the sizes of Painchaud et al. 2020",
    ),
    "shape_vae_camus": Entry(
        build=_vae("shape_vae"),
        input_shape=(1, 64, 64, 4),
        description="VAE of heart shapes trained on CAMUS masks",
        weights="shape_vae_camus",
    ),
    "cvae_camus": Entry(
        build=_vae("cvae"),
        input_shape=(1, 64, 64, 4),
        description="VAE of heart shapes whose code tells the cardiac phase linearly",
        weights="cvae_camus",
    ),
    "arvae_camus": Entry(
        build=_vae("arvae"),
        input_shape=(1, 64, 64, 4),
        description="VAE of heart shapes whose first seven dimensions follow the seven shape attributes",
        weights="arvae_camus",
    ),
}


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
    return _entry(name).build(**overrides)


def abstract_variables(name: str, **overrides: Any) -> PyTree:
    """Shapes of a model's variables, without computing anything.

    Args:
        name: A name of `list_models`.
        **overrides: Fields of the configuration to replace.

    Returns:
        The variables as `jax.ShapeDtypeStruct`.
    """
    entry = _entry(name)
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (entry.input_shape, *entry.other_shapes)]
    return jax.eval_shape(entry.build(**overrides).init, jax.random.key(0), *inputs)


def load(name: str, *, weights: str | Path | None = None) -> tuple[Module, PyTree]:
    """Loads a model with its weights.

    Args:
        name: A name of `list_models`.
        weights: A weight file for it; the packaged one if not given.

    Returns:
        The Flax module and its variables in float32: ``model.apply(variables, images)``.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If it has no weights, or they do not fit.
    """
    entry = _entry(name)
    if weights is None:
        if entry.weights is None:
            raise WeightsError(f"{name} has no packaged weights; give a file, or use one of {_with_weights()}")
        weights = _weights_folder() / f"{entry.weights}.safetensors"
    params = load_weights(weights, abstract_variables(name)["params"])
    return entry.build(), {"params": params}


def card(name: str) -> dict[str, Any]:
    """The card of a model: data, licence, command, seed and measured scores.

    Args:
        name: A name of `list_models`.

    Returns:
        What is known, as JSON-like values.

    Raises:
        KeyError: If there is no such model.
    """
    entry = _entry(name)
    num_params = sum(leaf.size for leaf in jax.tree.leaves(abstract_variables(name)))
    facts = {"name": name, "description": entry.description, "num_params": num_params}
    if entry.weights is None:
        return facts
    path = _weights_folder() / f"{entry.weights}.json"
    return {**facts, **json.loads(path.read_text(encoding="utf-8"))}


def _entry(name: str) -> Entry:
    try:
        return _REGISTRY[name]
    except KeyError:
        raise KeyError(f"no model {name!r} in the zoo; there are {', '.join(list_models())}") from None


def _with_weights() -> str:
    return ", ".join(n for n in list_models() if _REGISTRY[n].weights)


def _weights_folder() -> Path:
    return Path(str(resources.files("cardiojax.zoo") / "files"))
