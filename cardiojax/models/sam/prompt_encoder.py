"""SAM's prompt encoder: points, boxes and masks as tokens and a feature map."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cardiojax.models.sam.config import SAMConfig


class Prompts(NamedTuple):
    """What a person, or a program, points at; each part may be missing.

    Attributes:
        points: ``(row, column)`` in pixels of the model's input.
        labels: Of the points: 1 inside the object, 0 outside, -1 no point.
        boxes: ``(top, left, bottom, right)`` in pixels of the model's input.
        masks: Logits of an earlier prediction, a quarter of a patch a pixel.
    """

    points: Float[Array, "*b n 2"] | None = None
    labels: Int[Array, "*b n"] | None = None
    boxes: Float[Array, "*b 4"] | None = None
    masks: Float[Array, "*b m m"] | None = None


class PromptEncoder(nn.Module):
    """Fourier features of coordinates plus a learned vector for what they mean."""

    config: SAMConfig

    def setup(self):
        """Declares the parts."""
        config, normal = self.config, nn.initializers.normal(1.0)
        dim, dtype = config.prompt_dim, config.dtype
        self.gaussian_matrix = self.param("gaussian_matrix", normal, (2, dim // 2))
        self.point_embeddings = [self.param(f"point_embeddings_{i}", normal, (1, dim)) for i in range(4)]
        self.not_a_point_embed = self.param("not_a_point_embed", normal, (1, dim))
        self.no_mask_embed = self.param("no_mask_embed", normal, (1, dim))
        strided = {"kernel_size": (2, 2), "strides": (2, 2), "padding": "VALID", "dtype": dtype}
        self.mask_downscaling_0 = nn.Conv(4, **strided)
        self.mask_downscaling_1 = nn.LayerNorm(epsilon=1e-6, dtype=dtype)
        self.mask_downscaling_3 = nn.Conv(16, **strided)
        self.mask_downscaling_4 = nn.LayerNorm(epsilon=1e-6, dtype=dtype)
        self.mask_downscaling_6 = nn.Conv(dim, (1, 1), dtype=dtype)

    def __call__(self, prompts: Prompts) -> tuple[Float[Array, "*b n d"], Float[Array, "*b g g d"]]:
        """Encodes prompts.

        Args:
            prompts: Points, boxes, masks.

        Returns:
            Tokens, and what is to be added to the image's features.
        """
        config, tokens = self.config, []
        background, inside, corner, opposite = self.point_embeddings
        if prompts.points is not None and prompts.labels is not None:
            points, labels = prompts.points, prompts.labels
            if prompts.boxes is None:  # the original appends a point that is none
                points = jnp.concatenate([points, jnp.zeros_like(points[..., :1, :])], axis=-2)
                labels = jnp.concatenate([labels, jnp.full_like(labels[..., :1], -1)], axis=-1)
            kind, encoded = labels[..., None], self._encode(points)
            none = self.not_a_point_embed
            meaning = jnp.where(kind == 1, inside, jnp.where(kind == 0, background, none))
            tokens.append(jnp.where(kind == -1, 0, encoded) + meaning)
        if prompts.boxes is not None:
            corners = prompts.boxes.reshape(*prompts.boxes.shape[:-1], 2, 2)
            tokens.append(self._encode(corners) + jnp.concatenate([corner, opposite]))
        batch = next((part.shape[:-1] for part in (prompts.boxes,) if part is not None), None)
        if batch is None:
            batch = () if prompts.points is None else prompts.points.shape[:-2]
        if prompts.masks is not None:
            batch = prompts.masks.shape[:-2]
        empty = jnp.zeros((*batch, 0, config.prompt_dim))
        sparse = jnp.concatenate([empty, *tokens], axis=-2).astype(config.dtype)
        if self.is_initializing():
            self._encode_mask(jnp.zeros((4 * config.grid, 4 * config.grid)))
        if prompts.masks is not None:
            return sparse, self._encode_mask(prompts.masks)
        dense = jnp.broadcast_to(self.no_mask_embed[0], (*batch, config.grid, config.grid, config.prompt_dim))
        return sparse, dense.astype(config.dtype)

    def grid_positions(self) -> Float[Array, "g g d"]:
        """Encodes the centres of the patches."""
        cells = (jnp.arange(self.config.grid) + 0.5) / self.config.grid
        return self._fourier(jnp.stack(jnp.meshgrid(cells, cells, indexing="ij"), axis=-1))

    def _encode(self, points: Float[Array, "*b n 2"]) -> Float[Array, "*b n d"]:
        return self._fourier((points + 0.5) / self.config.image_size)

    def _fourier(self, unit: Array) -> Array:
        # float32 whatever the computation's type: the angles are large; the matrix wants (x, y)
        angles = 2 * jnp.pi * ((2 * unit[..., ::-1] - 1) @ self.gaussian_matrix)
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)

    def _encode_mask(self, masks: Array) -> Array:
        x = self.mask_downscaling_1(self.mask_downscaling_0(masks[..., None]))
        x = self.mask_downscaling_4(self.mask_downscaling_3(nn.gelu(x, approximate=False)))
        return self.mask_downscaling_6(nn.gelu(x, approximate=False))
