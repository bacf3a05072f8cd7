"""nnU-Net's planning rules: from the spacing and size of the images to a network and its patches."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_MIN_EDGE = 4
_BASE_FEATURES = 32
_MIN_BATCH = 2
_LARGEST_SHARE = 0.05
_MAX_STAGES = 13


class _Preset(NamedTuple):
    """Blocks of a stage, convolutions of a decoder stage, and what fits into how many GB (2-D, 3-D)."""

    blocks: tuple[int, ...]
    decoder_convs: int
    reference_2d: float
    reference_3d: float
    memory_gb: float


_RESIDUAL_BLOCKS = (1, 3, 4) + (6,) * (_MAX_STAGES - 3)
PLAN_PRESETS: dict[str, _Preset] = {
    "plain": _Preset((2,) * _MAX_STAGES, 2, 85e6, 560e6, 8),
    "residual_m": _Preset(_RESIDUAL_BLOCKS, 1, 135e6, 680e6, 8),
    "residual_l": _Preset(_RESIDUAL_BLOCKS, 1, 380e6, 2100e6, 24),
    "residual_xl": _Preset(_RESIDUAL_BLOCKS, 1, 560e6, 3600e6, 40),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A network and the patches it sees; axes in the order of the image's.

    Attributes:
        spacing: Spacing to which images are resampled, mm (or any unit) per voxel.
        patch_size: Voxels of a patch.
        batch_size: Patches a step.
        features: Channels of each stage, from the input's resolution down.
        kernels: Kernel of each stage.
        strides: Stride of the first convolution of each stage; that of the first is 1.
        blocks: Convolutions (or residual blocks) of each encoder stage.
        decoder_convs: Convolutions of a decoder stage.
        residual: Whether the encoder is residual.
        separate_axis: Axis so coarse that images are resampled along it apart from the others; None if there is none.
        num_channels: Channels of the images.
        num_classes: Channels of the logits.
        dtype: Type of the computation; parameters and logits are float32.
    """

    spacing: tuple[float, ...]
    patch_size: tuple[int, ...]
    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]
    batch_size: int = 2
    decoder_convs: int = 2
    residual: bool = False
    separate_axis: int | None = None
    num_channels: int = 1
    num_classes: int = 4
    dtype: str = "float32"

    def save(self, path: str | Path) -> None:
        """Writes the plan as JSON."""
        Path(path).write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Reads a plan that `save` wrote.

        Raises:
            ValueError: If the file is none.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**{key: _tuples(value) for key, value in values.items()})
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}: not a plan ({error})") from error

    @classmethod
    def load_original(
        cls, path: str | Path, configuration: str = "2d", *, num_channels: int, num_classes: int
    ) -> "Plan":
        """Reads a configuration of a ``plans.json`` that nnU-Net version 2.4 or later wrote, to load its checkpoints.

        Args:
            path: The file.
            configuration: ``"2d"``, ``"3d_fullres"`` or ``"3d_lowres"``.
            num_channels: Channels of the images, as its ``dataset.json`` lists them.
            num_classes: Labels there, the background among them.

        Returns:
            The plan.

        Raises:
            ValueError: If the file is none, or its network is not one of ours.
        """
        try:
            plans = json.loads(Path(path).read_text(encoding="utf-8"))["configurations"][configuration]
            network, arguments = plans["architecture"]["network_class_name"], plans["architecture"]["arch_kwargs"]
            residual = network.endswith(".ResidualEncoderUNet")
            decoder_convs = set(arguments["n_conv_per_stage_decoder"])
            plan = cls(
                spacing=_tuples(plans["spacing"]),
                patch_size=_tuples(plans["patch_size"]),
                batch_size=plans["batch_size"],
                features=_tuples(arguments["features_per_stage"]),
                kernels=_tuples(arguments["kernel_sizes"]),
                strides=_tuples(arguments["strides"]),
                blocks=_tuples(arguments["n_blocks_per_stage" if residual else "n_conv_per_stage"]),
                decoder_convs=decoder_convs.pop(),
                residual=residual,
                num_channels=num_channels,
                num_classes=num_classes,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}: no plan of nnU-Net for {configuration} ({error})") from error
        if decoder_convs or not network.endswith((".PlainConvUNet", ".ResidualEncoderUNet")):
            raise ValueError(f"{path}: the network of {configuration}, {network}, is not one of the zoo's")
        return plan

    def __str__(self) -> str:
        kind = "residual" if self.residual else "plain"
        lines = [
            f"{kind} U-Net, patches {_by(self.patch_size)} at spacing {_by(self.spacing)}, "
            f"batches of {self.batch_size}",
            "stage  features  stride     kernel     blocks  size",
        ]
        sizes = stage_sizes(self.patch_size, self.strides)
        for i, (features, stride, kernel, blocks, size) in enumerate(
            zip(self.features, self.strides, self.kernels, self.blocks, sizes, strict=True)
        ):
            lines.append(f"{i:<6} {features:<9} {_by(stride):<10} {_by(kernel):<10} {blocks:<7} {_by(size)}")
        return "\n".join(lines)


def make_plan(
    spacing: Sequence[float],
    median_shape: Sequence[int],
    *,
    num_channels: int = 1,
    num_classes: int = 4,
    num_images: int | None = None,
    preset: str = "plain",
    memory_gb: float | None = None,
) -> Plan:
    """Plans a 2-D or 3-D network (or 2-D with time, the first axis) by the rules of nnU-Net version 2.

    Args:
        spacing: Spacing to which images will be resampled, see `target_spacing`.
        median_shape: Median size of the images at that spacing, voxels.
        num_channels: Channels of the images.
        num_classes: Classes, the background among them.
        num_images: Training images, of which a batch may cover 5 percent; without limit if not given.
        preset: A key of `PLAN_PRESETS`.
        memory_gb: Memory of the accelerator; that for which the preset was made if not given.

    Returns:
        The plan.

    Raises:
        ValueError: If there are not two or three axes.

    Example:
        >>> print(make_plan((0.3, 0.3), (584, 354)))
        plain U-Net, patches 640 x 384 at spacing 0.3 x 0.3, batches of 13
        stage  features  stride     kernel     blocks  size
        0      32        1 x 1      3 x 3      2       640 x 384
        1      64        2 x 2      3 x 3      2       320 x 192
        2      128       2 x 2      3 x 3      2       160 x 96
        3      256       2 x 2      3 x 3      2       80 x 48
        4      512       2 x 2      3 x 3      2       40 x 24
        5      512       2 x 2      3 x 3      2       20 x 12
        6      512       2 x 2      3 x 3      2       10 x 6

    References:
        Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
        Nature Methods 2021; residual presets: "nnU-Net Revisited", MICCAI 2024.
    """
    num_axes = len(spacing)
    if num_axes not in (2, 3) or len(median_shape) != num_axes:
        raise ValueError(f"spacing and shape need the same 2 or 3 axes, got {tuple(spacing)} and {tuple(median_shape)}")
    chosen = PLAN_PRESETS[preset]
    reference = chosen.reference_2d if num_axes == 2 else chosen.reference_3d
    reference *= (memory_gb or chosen.memory_gb) / chosen.memory_gb
    reference_batch = 12 if num_axes == 2 else 2
    residual = preset != "plain"

    def design(patch: Sequence[int]) -> Plan:
        strides, kernels, patch, _ = topology(spacing, patch)
        stages = len(strides)
        most = 512 if num_axes == 2 else 320
        return Plan(
            spacing=tuple(map(float, spacing)),
            patch_size=patch,
            features=tuple(min(most, _BASE_FEATURES * 2**i) for i in range(stages)),
            kernels=kernels,
            strides=strides,
            blocks=chosen.blocks[:stages],
            decoder_convs=chosen.decoder_convs,
            residual=residual,
            separate_axis=separate_axis(spacing, median_shape),
            num_channels=num_channels,
            num_classes=num_classes,
        )

    aspect = 1 / np.asarray(spacing, float)
    edge = ((2048**2 if num_axes == 2 else 256**3) / aspect.prod()) ** (1 / num_axes)
    plan = design([min(round(a), m) for a, m in zip(aspect * edge, median_shape, strict=True)])
    while feature_map_size(plan) / reference_batch * _MIN_BATCH > reference:
        patch = list(plan.patch_size)
        axis = int(np.argsort([p / m for p, m in zip(patch, median_shape, strict=True)])[-1])
        smaller = patch.copy()
        smaller[axis] -= topology(spacing, patch)[3][axis]
        patch[axis] -= topology(spacing, smaller)[3][axis]
        plan = design(patch)
    batch = round(reference / feature_map_size(plan) * reference_batch)
    if num_images is not None:
        voxels = num_images * math.prod(map(float, median_shape))
        batch = min(batch, round(voxels * _LARGEST_SHARE / math.prod(plan.patch_size)))
    return dataclasses.replace(plan, batch_size=max(batch, _MIN_BATCH))


def topology(
    spacing: Sequence[float], patch_size: Sequence[int]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...], tuple[int, ...], tuple[int, ...]]:
    """Chooses strides and kernels so that voxels become isotropic and feature maps keep an edge of 4.

    Args:
        spacing: Of a voxel.
        patch_size: Voxels.

    Returns:
        Strides of the stages, their kernels, the patch padded to what the strides divide, and that divisor.
    """
    num_axes = len(spacing)
    spacing, size = [float(s) for s in spacing], [int(p) for p in patch_size]
    kernel, divisor = [1] * num_axes, [1] * num_axes
    strides, kernels = [(1,) * num_axes], []
    while True:
        axes = [i for i in range(num_axes) if size[i] >= 2 * _MIN_EDGE]
        if not axes:
            break
        finest = min(spacing[i] for i in axes)
        axes = [i for i in axes if spacing[i] / finest < 2]
        if len(axes) == 1 and size[axes[0]] < 3 * _MIN_EDGE:
            break
        kernel = [3 if k == 3 or s / min(spacing) < 2 else 1 for k, s in zip(kernel, spacing, strict=True)]
        for i in axes:
            divisor[i] *= 2
            spacing[i] *= 2
            size[i] = -(-size[i] // 2)
        strides.append(tuple(2 if i in axes else 1 for i in range(num_axes)))
        kernels.append(tuple(kernel))
    kernels.append((3,) * num_axes)
    padded = tuple(-(-int(p) // d) * d for p, d in zip(patch_size, divisor, strict=True))
    return tuple(strides), tuple(kernels), padded, tuple(divisor)


def feature_map_size(plan: Plan) -> int:
    """Numbers in all feature maps of one patch, nnU-Net's measure of memory.

    Args:
        plan: The network.

    Returns:
        The count, one channel of one voxel each.
    """
    sizes = [math.prod(size) for size in stage_sizes(plan.patch_size, plan.strides)]
    total = plan.features[0] * sizes[0] if plan.residual else 0
    for stage, (features, size, blocks) in enumerate(zip(plan.features, sizes, plan.blocks, strict=True)):
        maps = 2 * blocks if plan.residual else blocks
        if plan.residual and stage:
            maps += 1  # the projection of the first block
        total += maps * features * size
    for features, size in zip(plan.features[:-1], sizes[:-1], strict=True):
        total += (plan.decoder_convs + 1) * features * size
    return total + plan.num_classes * sizes[0]


def stage_sizes(patch_size: Sequence[int], strides: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Size of the feature maps of each stage.

    Args:
        patch_size: Voxels of the input.
        strides: Stride of each stage.

    Returns:
        Voxels of each stage.
    """
    size, sizes = tuple(patch_size), []
    for stride in strides:
        size = tuple(n // s for n, s in zip(size, stride, strict=True))
        sizes.append(size)
    return sizes


def separate_axis(spacing: Sequence[float], median_shape: Sequence[float]) -> int | None:
    """The axis along which images are so coarse that it is resampled apart from the others.

    Args:
        spacing: Median of the images.
        median_shape: Median of the images, voxels.

    Returns:
        The axis with over three times the spacing and less than a third of the voxels of the others, None without.
    """
    coarse = int(np.argmax(spacing))
    others = [i for i in range(len(spacing)) if i != coarse]
    is_coarse = len(others) > 1 and spacing[coarse] > 3 * max(spacing[i] for i in others)
    return coarse if is_coarse and median_shape[coarse] * 3 < min(median_shape[i] for i in others) else None


def target_spacing(spacings: np.ndarray, shapes: np.ndarray) -> tuple[float, ...]:
    """Chooses the spacing to which a data set is resampled.

    Args:
        spacings: Of each image, ``[n, axes]``.
        shapes: Voxels of each image, ``[n, axes]``.

    Returns:
        The median; along an axis resampled separately the 10th percentile, but not finer than the others.

    Example:
        >>> import numpy as np
        >>> spacings, shapes = np.array([[0.3, 0.3], [0.5, 0.3], [0.4, 0.4]]), np.array([[500, 400]] * 3)
        >>> [round(float(mm), 2) for mm in target_spacing(spacings, shapes)]
        [0.4, 0.3]
    """
    target = np.percentile(spacings, 50, axis=0)
    axis = separate_axis(target.tolist(), np.percentile(shapes, 50, axis=0).tolist())
    if axis is not None:
        fine = float(np.percentile(np.asarray(spacings)[:, axis], 10))
        others = max(s for i, s in enumerate(target) if i != axis)
        target[axis] = others + 1e-5 if fine < others else fine
    return tuple(map(float, target))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
