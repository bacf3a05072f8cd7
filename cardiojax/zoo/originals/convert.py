"""Checkpoints of the original projects as our variables, key by key."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from cardiojax.zoo.originals.torch_file import read_torch
from cardiojax.zoo.weights import WeightsError, as_float32, first_of, flatten, read_safetensors


class Layout(NamedTuple):
    """How a project names what we name by Flax paths such as ``encoder/blocks_0/attn/qkv/kernel``.

    Attributes:
        rename: Patterns and replacements that turn our paths into its keys, in order. What remains is general:
            kernels and scales are called weight, a number after an underscore follows a dot, slashes are dots.
        transposed: Pattern of our paths whose kernels belong to transposed convolutions.
        ignore: Pattern of its keys that repeat others or have no counterpart.
        fold: Whether batch normalisations ``X.bn`` are folded into the convolutions ``X.c`` before them.
    """

    rename: tuple[tuple[str, str], ...] = ()
    transposed: str = r"(?!)"
    ignore: str = r"(?!)"
    fold: bool = False


#: What PyTorch's batch normalisation adds to the variance.
_BATCH_NORM_EPSILON = 1e-5

#: What wrappers put before each key: `DistributedDataParallel`, `torch.compile`, Lightning modules, in any order.
_PREFIX = re.compile(r"^(?:(?:module|_orig_mod|model)\.)+")
#: What `torch.compile` of a part puts in the middle of a key, and the counters of batch normalisation.
_COMPILED = re.compile(r"(?<=\.)_orig_mod\.")
_COUNTER = re.compile(r"(?:^|\.)num_batches_tracked$")


#: Names of SAM's prompt encoder and mask decoder, which its relatives share.
_SAM_PROMPTS = (
    (r"/gaussian_matrix$", "/pe_layer/positional_encoding_gaussian_matrix"),
    (r"(point_embeddings_\d|not_a_point_embed|no_mask_embed|iou_token|mask_tokens)$", r"\1/weight"),
)

#: Where the weights of each family come from.
LAYOUTS: dict[str, Layout] = {
    "timm": Layout(rename=((r"^encoder/", ""), (r"^patch_embed/", "patch_embed/proj/"))),
    "sam": Layout(
        rename=(
            (r"/patch_embed/", "/patch_embed/proj/"),
            (r"^(image_encoder/.*/mlp)/fc", r"\1/lin"),
            (r"/adapter/", "/Adapter/"),
            *_SAM_PROMPTS,
        ),
        transposed=r"/output_upscaling_\d/|/spatial_2/",
        ignore=r"^pixel_(mean|std)$",
    ),
    "lite_medsam": Layout(
        rename=(
            (r"^image_encoder/patch_embed_", "image_encoder/patch_embed/"),
            (r"^(image_encoder/layers_\d+)_", r"\1/"),
            (r"/mlp_norm/", "/mlp/norm/"),
            *_SAM_PROMPTS,
        ),
        transposed=r"/output_upscaling_\d/",
        fold=True,
    ),
    "nnunet": Layout(
        rename=(
            (r"^stem/", "encoder/stem/convs_0/"),
            (r"^encoder_(\d+)_block_(\d+)/(conv|norm)/", r"encoder/stages_\1_0/convs_\2/\3/"),
            (r"^encoder_(\d+)_block_(\d+)/skip/", r"encoder/stages_\1/blocks_\2/skip_1/"),
            (r"^encoder_(\d+)_block_(\d+)/", r"encoder/stages_\1/blocks_\2/"),
            (r"^decoder_(\d+)_block_(\d+)/", r"decoder/stages_\1/convs_\2/"),
            (r"^up_(\d+)/", r"decoder/transpconvs_\1/"),
            (r"^head_(\d+)/", r"decoder/seg_layers_\1/"),
        ),
        transposed=r"^up_",
        ignore=r"all_modules\.|^decoder\.encoder\.",
    ),
}


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, without running anything in it.

    Args:
        path: The file.

    Returns:
        Name to array.

    Raises:
        WeightsError: If the file cannot be read.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from cardiojax import zoo
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     zoo.save_weights(f"{folder}/w.safetensors", {"dense": {"kernel": jnp.ones((2, 3))}})
        ...     print(sorted(read_checkpoint(f"{folder}/w.safetensors")))
        ['dense/kernel']
    """
    return read_safetensors(path) if Path(path).suffix == ".safetensors" else read_torch(path)


def convert(state: Mapping[str, np.ndarray], abstract_params: PyTree, *, layout: Layout, source: str) -> PyTree:
    """Turns the tensors of another project into our parameters.

    What wrappers put before or into the keys (``module.``, ``_orig_mod.``, ``model.``) and the counters of batch
    normalisation are left out.

    Args:
        state: Its names and arrays.
        abstract_params: Our tree, as `jax.eval_shape` gives it.
        layout: How the names correspond.
        source: What to call the checkpoint in errors.

    Returns:
        The parameters in float32.

    Raises:
        WeightsError: If a key is absent or left over, or an array has another shape or is not finite; the first is
            named, and how many more there are.
    """
    rest = _without_wrappers(state, layout, source)
    if layout.fold:
        rest = _fold_batch_norms(rest, source)
    expected = {path: (foreign_key(path, layout), wanted) for path, wanted in flatten(abstract_params).items()}
    lacking = [f"{key} (here {path})" for path, (key, _) in expected.items() if key not in rest]
    if lacking:
        raise WeightsError(f"{source}: the model needs {first_of(lacking)}, which the checkpoint lacks")
    unknown = sorted(rest.keys() - {key for key, _ in expected.values()})
    if unknown:
        raise WeightsError(f"{source}: the checkpoint holds {first_of(unknown)}, which the model lacks")
    leaves = []
    for path, (key, wanted) in expected.items():
        value = _ours(rest[key], path, layout)
        if value.shape != wanted.shape:
            raise WeightsError(f"{source}: {key} has shape {value.shape} as {path}, the model needs {wanted.shape}")
        leaves.append(jax.device_put(as_float32(value, key, source)))
    return jax.tree.structure(abstract_params).unflatten(leaves)


def _without_wrappers(state: Mapping[str, np.ndarray], layout: Layout, source: str) -> dict[str, np.ndarray]:
    rest: dict[str, np.ndarray] = {}
    for name, value in state.items():
        key = _COMPILED.sub("", _PREFIX.sub("", name))
        if _COUNTER.search(key) or re.search(layout.ignore, key):
            continue
        if key in rest:
            raise WeightsError(f"{source}: the checkpoint holds {key} twice, one as {name}")
        rest[key] = value
    return rest


def _fold_batch_norms(state: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Scales each kernel ``X.c.weight`` by the normalisation ``X.bn`` that follows, and turns the rest into a bias."""
    rest = dict(state)
    for key in [key for key in state if key.endswith(".c.weight")]:
        name = key.removesuffix(".c.weight")
        parts = [f"{name}.bn.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        lacking = [part for part in parts if part not in rest]
        if lacking:
            raise WeightsError(f"{source}: the checkpoint lacks {first_of(lacking)}, which {key} needs")
        kernel, scale, bias, mean, variance = (rest.pop(part).astype(np.float64) for part in (key, *parts))
        if any(each.shape != kernel.shape[:1] for each in (scale, bias, mean, variance)):
            raise WeightsError(f"{source}: {name}.bn does not have the {kernel.shape[:1]} channels of {key}")
        factor = scale / np.sqrt(variance + _BATCH_NORM_EPSILON)
        kernel = kernel * factor.reshape(-1, *(1,) * (kernel.ndim - 1))
        is_linear = kernel.shape[2:] == (1, 1)
        rest[f"{name}.weight"] = kernel[:, :, 0, 0] if is_linear else kernel
        rest[f"{name}.bias"] = bias - mean * factor
    return rest


def foreign_key(path: str, layout: Layout) -> str:
    """What a project calls one of our parameters.

    Args:
        path: Our path.
        layout: How the names correspond.

    Returns:
        Its key.

    Example:
        >>> from cardiojax import zoo
        >>> foreign_key("blocks_0/attn/qkv/kernel", zoo.LAYOUTS["timm"])
        'blocks.0.attn.qkv.weight'
    """
    for pattern, replacement in layout.rename:
        path = re.sub(pattern, replacement, path)
    path = re.sub(r"(?<=/)(kernel|scale)$", "weight", path)
    return re.sub(r"_(\d+)(?=/|_|$)", r".\1", path).replace("/", ".")


def _ours(value: np.ndarray, path: str, layout: Layout) -> np.ndarray:
    if not path.endswith("/kernel") or value.ndim < 2:
        return value
    if re.search(layout.transposed, path):
        return np.moveaxis(value, (0, 1), (-2, -1))
    return np.moveaxis(value, (0, 1), (-1, -2))
