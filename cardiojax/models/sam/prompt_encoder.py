"""SAM's prompt encoder: points, boxes and masks as tokens and a feature map."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cardiojax.models.sam.config import SAMConfig


class Prompts(NamedTuple):
    """What a person, or a program, points at; each part may be missing.

    Attributes:
        points: ``(row, column)`` in pixels of the model's input, or ``(slice, row, column)`` in voxels.
        labels: Of the points: 1 inside the object, 0 outside, -1 no point.
        boxes: ``(top, left, bottom, right)`` in pixels of the model's input; SAM-Med3D knows none.
        masks: Logits of an earlier prediction, a quarter of a patch a pixel.
    """

    points: Float[Array, "*b n axes"] | None = None
    labels: Int[Array, "*b n"] | None = None
    boxes: Float[Array, "*b 4"] | None = None
    masks: Float[Array, "..."] | None = None


class PromptEncoder(nn.Module):
    """Fourier features of coordinates plus a learned vector for what they mean."""

    config: SAMConfig

    def setup(self):
        """Declares the parts."""
        config, normal = self.config, nn.initializers.normal(1.0)
        dim, dtype, num_axes = config.prompt_dim, config.dtype, config.num_axes
        num_kinds = 4 if num_axes == 2 else 2  # background, object, two corners
        self.gaussian_matrix = self.param("gaussian_matrix", normal, (num_axes, dim // num_axes))
        self.point_embeddings = [self.param(f"point_embeddings_{i}", normal, (1, dim)) for i in range(num_kinds)]
        self.not_a_point_embed = self.param("not_a_point_embed", normal, (1, dim))
        self.no_mask_embed = self.param("no_mask_embed", normal, (1, dim))
        strided = {"kernel_size": (2,) * num_axes, "strides": (2,) * num_axes, "padding": "VALID", "dtype": dtype}
        self.mask_downscaling_0 = nn.Conv(4, **strided)
        self.mask_downscaling_1 = nn.LayerNorm(epsilon=1e-6, dtype=dtype)
        self.mask_downscaling_3 = nn.Conv(16, **strided)
        self.mask_downscaling_4 = nn.LayerNorm(epsilon=1e-6, dtype=dtype)
        self.mask_downscaling_6 = nn.Conv(dim, (1,) * num_axes, dtype=dtype)

    def __call__(self, prompts: Prompts) -> tuple[Float[Array, "*b n d"], Float[Array, "... d"]]:
        """Encodes prompts.

        Args:
            prompts: Points, boxes, masks.

        Returns:
            Tokens, and what is to be added to the image's features.

        Raises:
            ValueError: If there are boxes but the model knows none.
        """
        config, tokens, batch = self.config, [], ()
        grid = (config.grid,) * config.num_axes
        background, inside, *corners = self.point_embeddings
        if prompts.points is not None and prompts.labels is not None:
            points, labels = prompts.points, prompts.labels
            if prompts.boxes is None:  # the original appends a point that is none
                points = jnp.concatenate([points, jnp.zeros_like(points[..., :1, :])], axis=-2)
                labels = jnp.concatenate([labels, jnp.full_like(labels[..., :1], -1)], axis=-1)
            kind, batch = labels[..., None], labels.shape[:-1]
            meaning = jnp.where(kind == 1, inside, jnp.where(kind == 0, background, self.not_a_point_embed))
            tokens.append(jnp.where(kind == -1, 0, self._encode(points)) + meaning)
        if prompts.boxes is not None:
            if not corners:
                raise ValueError("this model knows no boxes")
            batch = prompts.boxes.shape[:-1]
            tokens.append(self._encode(prompts.boxes.reshape(*batch, 2, 2)) + jnp.concatenate(corners))
        if prompts.masks is not None:
            batch = prompts.masks.shape[: -config.num_axes]
            dense = self._encode_mask(prompts.masks)
        else:
            dense = jnp.broadcast_to(self.no_mask_embed[0], (*batch, *grid, config.prompt_dim)).astype(config.dtype)
        if self.is_initializing():
            self._encode_mask(jnp.zeros([4 * n for n in grid]))
        empty = jnp.zeros((*batch, 0, config.prompt_dim))
        return jnp.concatenate([empty, *tokens], axis=-2).astype(config.dtype), dense

    def grid_positions(self) -> Float[Array, "... d"]:
        """Encodes the centres of the patches."""
        cells = [(jnp.arange(self.config.grid) + 0.5) / self.config.grid] * self.config.num_axes
        row, column, *rest = jnp.meshgrid(*cells, indexing="ij")
        # SAM's matrix wants (x, y); SAM-Med3D swaps the first two axes here, though not in its points
        return self._fourier(jnp.stack([column, row, *rest], axis=-1))

    def _encode(self, points: Array) -> Array:
        unit = (points + 0.5) / self.config.image_size
        return self._fourier(unit[..., ::-1] if self.config.num_axes == 2 else unit)

    def _fourier(self, unit: Array) -> Array:
        angles = 2 * jnp.pi * ((2 * unit - 1) @ self.gaussian_matrix)  # large: float32 whatever the computation's type
        parts = [jnp.sin(angles), jnp.cos(angles), jnp.sin(angles)]
        return jnp.concatenate(parts[: self.config.num_axes], axis=-1)

    def _encode_mask(self, masks: Array) -> Array:
        x = self.mask_downscaling_1(self.mask_downscaling_0(masks[..., None]))
        x = self.mask_downscaling_4(self.mask_downscaling_3(nn.gelu(x, approximate=False)))
        return self.mask_downscaling_6(nn.gelu(x, approximate=False))
