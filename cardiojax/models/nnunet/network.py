"""nnU-Net's networks: U-Nets in two or three dimensions, plain or with a residual encoder."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax import ops
from cardiojax.models.nnunet.layers import BlockUpConv, ConvNormAct, ResidualBlock
from cardiojax.models.nnunet.plan import Plan


def _stages(
    num_axes: int,
    num_stages: int,
    *,
    time: tuple[int, ...] | None = None,
    residual: bool = False,
    features: tuple[int, ...] | None = None,
) -> Plan:
    """A plan of isotropic pixels; with time as the first axis if it is halved only at the stages ``time``."""
    features = features or tuple(min(512 if num_axes == 2 else 320, 32 * 2**i) for i in range(num_stages))
    strides = [(1,) * num_axes] + [(2,) * num_axes] * (num_stages - 1)
    if time is not None:
        strides = [(2 if i in time else 1, *s[1:]) for i, s in enumerate(strides)]
    blocks = (1, 3, 4, *[6] * num_stages)[:num_stages] if residual else (2,) * num_stages
    patch = {2: (256, 256), 3: (24, 320, 256) if time else (128, 128, 128)}[num_axes]
    return Plan(
        spacing=(1.0,) * num_axes,
        patch_size=patch,
        features=features,
        kernels=((3,) * num_axes,) * num_stages,
        strides=tuple(strides),
        blocks=blocks,
        decoder_convs=1 if residual else 2,
        residual=residual,
    )


#: Networks for echo at usual sizes; `make_plan` makes one for a data set. ``nnunet_2dt`` has the strides planned for
#: apical clips in Ling et al., "Extraction of volumetric indices from echocardiography: which deep learning solution
#: for clinical use?", FIMH 2023.
NNUNET_PRESETS: dict[str, Plan] = {
    "nnunet_2d": _stages(2, 7),
    "nnunet_small_2d": _stages(2, 6, features=(16, 32, 64, 128, 256, 256)),
    "nnunet_3d": _stages(3, 6),
    "nnunet_2dt": _stages(3, 6, time=(2, 3)),
    "nnunet_residual_2d": _stages(2, 7, residual=True),
    "nnunet_residual_3d": _stages(3, 6, residual=True),
}


class NNUNetOutput(NamedTuple):
    """What an nnU-Net returns.

    Attributes:
        logits: Scores at the input's resolution, float32.
        deep_logits: Scores of the lower decoder stages, finest first; a jitted program that does not use them does
            not compute them.
        features: Last feature maps.
        bottleneck: Feature maps of the deepest stage.
    """

    logits: Float[Array, "... k"]
    deep_logits: tuple[Float[Array, "... k"], ...]
    features: Float[Array, "... c"]
    bottleneck: Float[Array, "... d"]


class NNUNet(nn.Module):
    """U-Net of a `Plan`, with leading axes ``*b`` before the plan's two or three.

    Attributes:
        config: The plan.
        implementation: ``"native"`` computes 3 x 3 and transposed convolutions and instance normalisation on CPU in
            float32 by compiled kernels, after `runtime.build_kernels`, with the limits that `ops.conv_general_dilated`
            names; the parameters are the same.

    Example:
        >>> import dataclasses, jax, jax.numpy as jnp
        >>> model = NNUNet(dataclasses.replace(NNUNET_PRESETS["nnunet_2dt"], features=(2,) * 6))
        >>> clips = jnp.zeros((1, 8, 64, 96, 1))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), clips)
        >>> out = jax.eval_shape(model.apply, variables, clips)
        >>> out.logits.shape, out.bottleneck.shape
        ((1, 8, 64, 96, 4), (1, 2, 2, 3, 2))

    References:
        Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
        Nature Methods 2021; residual encoder: "nnU-Net Revisited", MICCAI 2024.
    """

    config: Plan = NNUNET_PRESETS["nnunet_2d"]
    implementation: str = "xla"

    @property
    def divisor(self) -> tuple[int, ...]:
        """The numbers of which the sizes of the input must be multiples."""
        product = [1] * len(self.config.spacing)
        for stride in self.config.strides:
            product = [p * s for p, s in zip(product, stride, strict=True)]
        return tuple(product)

    @nn.compact
    def __call__(self, images: Float[Array, "... c"], *, train: bool = False) -> NNUNetOutput:
        """Segments images or volumes.

        Args:
            images: Normalised images ``[*b, h, w, c]``, volumes ``[*b, d, h, w, c]`` or clips ``[*b, t, h, w, c]``.
            train: Has no effect: nnU-Net has no dropout.

        Returns:
            Logits, those of lower stages, and feature maps.

        Raises:
            ValueError: If a size is no multiple of `divisor`.
        """
        ops.require_auto_axes(images)
        config, num_axes = self.config, len(self.config.spacing)
        size = images.shape[-1 - num_axes : -1]
        if any(n % d for n, d in zip(size, self.divisor, strict=True)):
            raise ValueError(f"sizes must be multiples of {self.divisor}, got {size}")
        x, skips = images.astype(config.dtype), []
        options: dict[str, Any] = {"dtype": config.dtype, "implementation": self.implementation}
        if config.residual:
            x = ConvNormAct(config.features[0], config.kernels[0], **options, name="stem")(x)
        for stage, features in enumerate(config.features):
            for i in range(config.blocks[stage]):
                stride = config.strides[stage] if i == 0 else (1,) * num_axes
                block = ResidualBlock if config.residual else ConvNormAct
                name = f"encoder_{stage}_block_{i}"
                x = block(features, config.kernels[stage], stride, **options, name=name)(x)
            skips.append(x)
        bottleneck, logits = x, []
        for i, stage in enumerate(reversed(range(len(config.features) - 1))):
            features, kernel = config.features[stage], config.kernels[stage]
            x = BlockUpConv(features, config.strides[stage + 1], **options, name=f"up_{i}")(x)
            x = jnp.concatenate([x, skips[stage]], axis=-1)
            for j in range(config.decoder_convs):
                x = ConvNormAct(features, kernel, **options, name=f"decoder_{i}_block_{j}")(x)
            head = nn.Conv(config.num_classes, (1,) * num_axes, dtype=config.dtype, name=f"head_{i}")
            logits.append(head(x).astype(jnp.float32))
        finest, *lower = reversed(logits)
        return NNUNetOutput(finest, tuple(lower), x, bottleneck)
