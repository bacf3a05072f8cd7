"""Checkpoints of the original projects as our variables, key by key."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from cardiojax.zoo.torch_file import read_torch
from cardiojax.zoo.weights import WeightsError, flatten, read_safetensors


class Layout(NamedTuple):
    """How a project names what we name by Flax paths such as ``encoder/blocks_0/attn/qkv/kernel``.

    Attributes:
        rename: Patterns and replacements that turn our paths into its keys, in order. What remains is general:
            kernels and scales are called weight, a number after an underscore follows a dot, slashes are dots.
        transposed: Pattern of our paths whose kernels belong to transposed convolutions.
        ignore: Pattern of its keys that say the same again or nothing.
        prefix: Pattern of what may stand before each of its keys.
    """

    rename: tuple[tuple[str, str], ...] = ()
    transposed: str = r"(?!)"
    ignore: str = r"(?!)"
    prefix: str = r"module\."


#: Where the weights of each family come from.
LAYOUTS: dict[str, Layout] = {
    "timm": Layout(rename=((r"^encoder/", ""), (r"^patch_embed/", "patch_embed/proj/"))),
    "sam": Layout(
        rename=(
            (r"/patch_embed/", "/patch_embed/proj/"),
            (r"^(image_encoder/.*/mlp)/fc", r"\1/lin"),
            (r"/adapter/", "/Adapter/"),
            (r"/gaussian_matrix$", "/pe_layer/positional_encoding_gaussian_matrix"),
            (r"(point_embeddings_\d|not_a_point_embed|no_mask_embed|iou_token|mask_tokens)$", r"\1/weight"),
        ),
        transposed=r"/output_upscaling_\d/|/spatial_2/",
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
        prefix=r"module\.|_orig_mod\.",
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
    """
    return read_safetensors(path) if Path(path).suffix == ".safetensors" else read_torch(path)


def convert(state: Mapping[str, np.ndarray], abstract_params: PyTree, *, layout: Layout, source: str) -> PyTree:
    """Turns the tensors of another project into our parameters.

    Args:
        state: Its names and arrays.
        abstract_params: Our tree, as `jax.eval_shape` gives it.
        layout: How the names correspond.
        source: What to call the checkpoint in errors.

    Returns:
        The parameters in float32.

    Raises:
        WeightsError: If anything is left over on either side or has another shape; the first mismatch is named.
    """
    rest = {re.sub(rf"^({layout.prefix})", "", key): value for key, value in state.items()}
    rest = {key: value for key, value in rest.items() if not re.search(layout.ignore, key)}
    expected = flatten(abstract_params)
    leaves = []
    for path, wanted in expected.items():
        key = foreign_key(path, layout)
        if key not in rest:
            raise WeightsError(f"{source}: the model needs {key} (here {path}), which the checkpoint lacks")
        value = _ours(rest.pop(key), path, layout)
        if value.shape != wanted.shape:
            raise WeightsError(f"{source}: {key} has shape {value.shape} as {path}, the model needs {wanted.shape}")
        leaves.append(value)
    if rest:
        raise WeightsError(f"{source}: the checkpoint holds {min(rest)}, which the model lacks")
    for path, value in zip(expected, leaves, strict=True):
        if not np.isfinite(value.astype(np.float32)).all():
            raise WeightsError(f"{source}: {foreign_key(path, layout)} holds values that are not finite")
    return jax.tree.structure(abstract_params).unflatten([jnp.asarray(value, jnp.float32) for value in leaves])


def foreign_key(path: str, layout: Layout) -> str:
    """What a project calls one of our parameters.

    Args:
        path: Our path.
        layout: How the names correspond.

    Returns:
        Its key.
    """
    for pattern, replacement in layout.rename:
        path = re.sub(pattern, replacement, path)
    path = re.sub(r"(?<=/)(kernel|scale)$", "weight", path)
    return re.sub(r"_(\d+)(?=/|_|$)", r".\1", path).replace("/", ".")


def _ours(value: np.ndarray, path: str, layout: Layout) -> np.ndarray:
    if not path.endswith("/kernel"):
        return value
    if re.search(layout.transposed, path):
        return np.moveaxis(value, (0, 1), (-2, -1))
    return np.moveaxis(value, (0, 1), (-1, -2))
