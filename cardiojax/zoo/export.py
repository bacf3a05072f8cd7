"""Models as StableHLO, one file that any platform's XLA runs without Python code of ours, and as ONNX."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Int, Num, PyTree, UInt8

from cardiojax import ops, storage
from cardiojax.models.preprocess import segmentation_logits
from cardiojax.zoo.overrides import read_overrides, write_overrides
from cardiojax.zoo.programs import Program, network_program
from cardiojax.zoo.weights import WeightsError

PLATFORMS = ("cpu", "cuda", "tpu")
#: The last bytes of a file with metadata, after the program, the metadata as JSON, and their length in 8 bytes.
_MARK = b"CARDIOJX"


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
    return export_program(network_program(model, variables, input_shape=input_shape), platforms=platforms)


def export_program(program: Program, *, platforms: Sequence[str] = PLATFORMS) -> jax.export.Exported:
    """Exports a function of arrays.

    Args:
        program: Of `network_program` or `sam_program`.
        platforms: Among ``"cpu"``, ``"cuda"``, ``"rocm"``, ``"tpu"``.

    Returns:
        The program: ``.call(*arguments)``.
    """
    scope = jax.export.SymbolicScope()
    shapes = [jax.export.symbolic_shape(", ".join(map(str, s)), scope=scope) for s in program.arguments.values()]
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.export.export(jax.jit(program.function), platforms=list(platforms))(*arguments)


def export_segmentation(
    model: Any, variables: PyTree, *, size: int = 224, platforms: Sequence[str] = PLATFORMS
) -> jax.export.Exported:
    """Exports `segment_frames`, from frames as they are stored to labels on the same grid, the weights inside.

    Args:
        model: A segmentation network of grey images.
        variables: Its variables.
        size: Side of the square grid on which the model works.
        platforms: Among ``"cpu"``, ``"cuda"``, ``"rocm"``, ``"tpu"``.

    Returns:
        The program: ``.call(frames, box)`` takes uint8 ``[b, h, w]`` of any size and int32 ``[4]``, and returns labels,
        uint8 ``[b, h, w]``.
    """

    def program(frames: Array, box: Array) -> Array:
        return segment_frames(model, variables, frames, box, size=size)

    frames = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, h, w"), jnp.uint8)
    box = jax.ShapeDtypeStruct((4,), jnp.int32)
    return jax.export.export(jax.jit(program), platforms=list(platforms))(frames, box)


def segment_frames(
    model: Any,
    variables: PyTree,
    frames: Num[Array, "b h w"],
    box: Int[Array, "4"] | None = None,
    *,
    size: int = 224,
) -> UInt8[Array, "b h w"]:
    """Segments frames within a box, as ``cardiojax analyze`` does before its corrections.

    Each frame is stretched to [0, 1] within the box and resampled to the grid of the model; the probabilities are
    resampled back, and the class is chosen on the grid of the frames. The kernels are those of `jax.image.resize`.

    Args:
        model: A segmentation network of grey images.
        variables: Its variables.
        frames: Grey values of any range, black outside the ultrasound sector.
        box: First row, row after the last, first column and column after the last of the sector; the frame if not
            given. The network was trained on sectors that fill the image: the box matters.
        size: Side of the square grid on which the model works.

    Returns:
        Labels; background outside the box, and in a frame of one grey value.
    """
    height, width = frames.shape[-2:]
    box = jnp.array((0, height, 0, width), jnp.int32) if box is None else box
    inside = ops.inside_box(box, height=height, width=width)
    x = frames.astype(jnp.float32)
    low = x.min((1, 2), keepdims=True, where=inside, initial=jnp.inf)
    high = x.max((1, 2), keepdims=True, where=inside, initial=-jnp.inf)
    x = jnp.where(inside, (x - low) / jnp.maximum(high - low, 1e-6), 0.0)
    images = ops.resample_from_box(x[..., None], box, height=size, width=size)
    probs = jax.nn.softmax(segmentation_logits(model.apply(variables, images), images))
    probs = ops.resample_to_box(probs, box, height=height, width=width)
    return jnp.where(inside & (high > low), probs.argmax(-1), 0).astype(jnp.uint8)


def save_exported(
    path: str | Path, exported: jax.export.Exported, *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Writes a program into a file, whole or not at all.

    Args:
        path: Target file.
        exported: Of `export_network` or `export_segmentation`.
        metadata: What the file says of it, as JSON, see `read_export_metadata`; `jax.export.deserialize` ignores it.

    Raises:
        WeightsError: If the package flatbuffers is missing.
    """
    try:
        content = bytes(exported.serialize())
    except ImportError as error:
        raise WeightsError(f"writing {path} needs flatbuffers: pip install 'cardiojax[export]' ({error})") from error
    if metadata is not None:
        text = write_overrides(metadata).encode()
        content += text + len(text).to_bytes(8, "little") + _MARK
    storage.write_atomic(path, content)


def read_export_metadata(path: str | Path) -> dict[str, Any]:
    """Reads what an exported file says of itself: model, licence, labels, arguments, preprocessing.

    Args:
        path: A file of `save_exported`.

    Returns:
        The metadata; empty if it has none.

    Raises:
        WeightsError: If there is no such file, or its metadata are damaged.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
    if not content.endswith(_MARK):
        return {}
    end = len(content) - len(_MARK) - 8
    length = int.from_bytes(content[end : end + 8], "little")
    if not 0 <= length <= end:
        raise WeightsError(f"{path}: claims {length} bytes of metadata, of {len(content)}")
    try:
        return read_overrides(content[end - length : end].decode())
    except ValueError as error:
        raise WeightsError(f"{path}: its metadata cannot be read ({type(error).__name__})") from None


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


def save_onnx(path: str | Path, program: Program, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes a program as an ONNX file, whole or not at all: U-Nets, nnU-Nets, vision transformers, Segment Anything.

    Args:
        path: Target file.
        program: Of `network_program` or `sam_program`, with no free size but the batch.
        metadata: What the file says of it in its ``metadata_props``: text as it is, the rest as JSON.

    Raises:
        WeightsError: If the package jax2onnx is missing.
    """
    try:
        from jax2onnx import to_onnx  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise WeightsError(f"writing {path} needs jax2onnx: pip install 'cardiojax[onnx]' ({error})") from error
    written = to_onnx(
        program.function,
        [*program.arguments.values()],
        input_names=[*program.arguments],
        output_names=[*program.results],
    )
    for key, value in (metadata or {}).items():
        written.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    storage.write_atomic(path, written.SerializeToString())
