"""Models as StableHLO, one file that any platform's XLA runs without Python code of ours, and as ONNX."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from cardiojax.zoo.weights import WeightsError

PLATFORMS = ("cpu", "cuda", "tpu")


def export_network(
    model: Any, variables: PyTree, *, input_shape: Sequence[int], platforms: Sequence[str] = PLATFORMS
) -> jax.export.Exported:
    """Exports images to logits, the weights inside.

    The batch is free. So are the sizes, in steps of the model's ``divisor``, where it has one; else they are those of
    ``input_shape``.

    Args:
        model: A module whose output has ``logits``.
        variables: Its variables.
        input_shape: ``(n, *size, channels)`` as in `Entry`.
        platforms: Among ``"cpu"``, ``"cuda"``, ``"rocm"``, ``"tpu"``.

    Returns:
        The program: ``.call(images)``.
    """
    sizes: list[Any] = list(input_shape[1:-1])
    divisor = getattr(model, "divisor", None)
    if divisor is not None:
        steps = (divisor,) * len(sizes) if isinstance(divisor, int) else divisor
        sizes = [f"{step}*{name}" for step, name in zip(steps, "hwd", strict=False)]
    shape = jax.export.symbolic_shape(f"b, {', '.join(map(str, sizes))}, {input_shape[-1]}")

    def network(images: Array) -> Array:
        return model.apply(variables, images).logits

    return jax.export.export(jax.jit(network), platforms=list(platforms))(jax.ShapeDtypeStruct(shape, jnp.float32))


def export_segmentation(
    model: Any, variables: PyTree, *, side: int = 224, platforms: Sequence[str] = PLATFORMS
) -> jax.export.Exported:
    """Exports the whole road from frames as they are stored to masks on the same grid, the weights inside.

    Resample to the model's grid, stretch each frame to [0, 1], network, resample the scores back, choose the class.

    Args:
        model: A segmentation network of grey images.
        variables: Its variables.
        side: Side of the square grid on which the model works.
        platforms: Among ``"cpu"``, ``"cuda"``, ``"rocm"``, ``"tpu"``.

    Returns:
        The program: ``.call(frames)`` takes uint8 ``[b, h, w]`` of any size and returns labels, uint8 ``[b, h, w]``.
    """

    def road(frames: Array) -> Array:
        return segment_frames(model, variables, frames, side=side)

    frames = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, h, w"), jnp.uint8)
    return jax.export.export(jax.jit(road), platforms=list(platforms))(frames)


def segment_frames(model: Any, variables: PyTree, frames: Array, *, side: int = 224) -> Array:
    """What `export_segmentation` exports, for those who stay in Python.

    Args:
        model: A segmentation network of grey images.
        variables: Its variables.
        frames: Grey values of any range, ``[b, h, w]``.
        side: Side of the square grid on which the model works.

    Returns:
        Labels, uint8 ``[b, h, w]``.
    """
    batch, h, w = frames.shape
    x = frames.astype(jnp.float32)[..., None]
    low, high = x.min((1, 2, 3), keepdims=True), x.max((1, 2, 3), keepdims=True)
    x = jax.image.resize((x - low) / jnp.maximum(high - low, 1e-6), (batch, side, side, 1), "linear")
    logits = model.apply(variables, x).logits
    return jax.image.resize(logits, (batch, h, w, logits.shape[-1]), "linear").argmax(-1).astype(jnp.uint8)


def save_exported(path: str | Path, exported: jax.export.Exported) -> None:
    """Writes a program into a file, whole or not at all.

    Args:
        path: Target file.
        exported: Of `export_network` or `export_segmentation`.

    Raises:
        WeightsError: If the package flatbuffers is missing.
    """
    path = Path(path)
    try:
        content = exported.serialize()
    except ImportError as error:
        raise WeightsError(f"writing {path} needs flatbuffers: pip install 'cardiojax[export]' ({error})") from error
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def load_exported(path: str | Path) -> jax.export.Exported:
    """Reads a program that `save_exported` wrote. Run only files you trust.

    Args:
        path: The file.

    Returns:
        The program: ``.call(images)``, and ``jax.jit(program.call)``.

    Raises:
        WeightsError: If it is none.
    """
    try:
        return jax.export.deserialize(bytearray(Path(path).read_bytes()))
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except ImportError as error:
        raise WeightsError(f"reading {path} needs flatbuffers: pip install 'cardiojax[export]' ({error})") from error
    except Exception as error:  # flatbuffers fails in many ways
        raise WeightsError(f"{path}: not an exported program ({type(error).__name__})") from error


def save_onnx(path: str | Path, model: Any, variables: PyTree, *, input_shape: Sequence[int]) -> None:
    """Writes images to logits as an ONNX file, whole or not at all: U-Nets, nnU-Nets and vision transformers.

    Args:
        path: Target file.
        model: A module whose output has ``logits``.
        variables: Its variables, which the file holds.
        input_shape: ``(n, *size, channels)`` as in `Entry`; the size is fixed, the batch is free.

    Raises:
        WeightsError: If the package jax2onnx is missing.
    """
    path = Path(path)
    try:
        from jax2onnx import to_onnx  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise WeightsError(f"writing {path} needs jax2onnx: pip install 'cardiojax[onnx]' ({error})") from error

    def network(images: Array) -> Array:
        return model.apply(variables, images).logits

    program = to_onnx(network, [("batch", *input_shape[1:])], input_names=["images"], output_names=["logits"])
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(program.SerializeToString())
    temporary.replace(path)
