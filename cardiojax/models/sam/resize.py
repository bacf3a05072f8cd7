"""Weights of a SAM for another size of image."""

import jax
from jaxtyping import PyTree

from cardiojax.models.sam.config import SAMConfig


def resize_parameters(params: PyTree, to: SAMConfig) -> PyTree:
    """Brings the positions of a SAM's image encoder to another size of image, as SAM-Med2D starts from SAM.

    Positions and the tables of the blocks that attend to the whole image are interpolated linearly; all else stays.

    Args:
        params: Parameters of a SAM that differs from ``to`` in the size of the image alone.
        to: The new configuration.

    Returns:
        Parameters for it.
    """
    encoder = dict(params["image_encoder"])
    positions = encoder["pos_embed"]
    size = (1, *(to.grid,) * to.num_axes, to.width)
    encoder["pos_embed"] = jax.image.resize(positions, size, "linear", antialias=False)
    for i in to.global_blocks:
        attention = {
            name: jax.image.resize(table, (2 * to.grid - 1, table.shape[1]), "linear", antialias=False)
            if name.startswith("rel_pos")
            else table
            for name, table in encoder[f"blocks_{i}"]["attn"].items()
        }
        encoder[f"blocks_{i}"] = {**encoder[f"blocks_{i}"], "attn": attention}
    return {**params, "image_encoder": encoder}
