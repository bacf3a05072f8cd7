"""An adapter: layers that are trained within an image encoder that stays as it is."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


class Adapter(nn.Module):
    """SAM-Med2D's adapter: a gate on the channels, then a bottleneck in space.

    Attributes:
        width: Channels, in and out.
        dtype: Type of the computation.

    References:
        Cheng et al., "SAM-Med2D", 2023.
    """

    width: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "*b h w d"]) -> Float[Array, "*b h w d"]:
        """Adapts feature maps of even height and width."""
        width, dtype = self.width, self.dtype
        gate = nn.Dense(width // 4, use_bias=False, dtype=dtype, name="channel_0")(x.mean((-3, -2)))
        gate = nn.Dense(width, use_bias=False, dtype=dtype, name="channel_2")(nn.relu(gate))
        y = x * nn.sigmoid(gate)[..., None, None, :]
        same = {"use_bias": False, "dtype": dtype}
        y = nn.relu(nn.Conv(width, (3, 3), (2, 2), padding=[(1, 1), (1, 1)], name="spatial_0", **same)(y))
        up = _UpConv(width, dtype=dtype, name="spatial_2")
        return nn.LayerNorm(epsilon=1e-5, dtype=dtype, name="norm")(x + nn.relu(up(y)))


class _UpConv(nn.Module):
    """PyTorch's transposed convolution of 4 x 4, stride 2, padding 1: four convolutions of 2 x 2, interleaved.

    XLA's own form inserts zeros and is an order of magnitude slower on CPU.
    """

    features: int
    dtype: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = nn.initializers.he_normal()
        kernel = self.param("kernel", init, (4, 4, x.shape[-1], self.features), jnp.float32).astype(x.dtype)
        *batch, h, w, c = x.shape
        x = x.reshape(-1, h, w, c)

        def phase(row: int, column: int) -> Array:
            taps = kernel[3 - row :: -2, 3 - column :: -2]
            padding = [(1 - row, row), (1 - column, column)]
            return lax.conv_general_dilated(x, taps, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

        rows = [jnp.stack([phase(row, 0), phase(row, 1)], axis=3) for row in range(2)]
        return jnp.stack(rows, axis=2).reshape(*batch, 2 * h, 2 * w, self.features)
