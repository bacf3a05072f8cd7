"""Files for programs without this package: a model as StableHLO or ONNX, with what its users must know of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import cardiojax
from cardiojax.validation import MAX_SIZE
from cardiojax.zoo.export import PLATFORMS, export_program, export_segmentation, save_exported, save_onnx
from cardiojax.zoo.loading import card, load
from cardiojax.zoo.programs import Program, network_program, sam_program

#: Those for which XLA compiles.
_PLATFORMS = (*PLATFORMS, "rocm")
#: What `export_segmentation` leaves to its caller, and what it does.
_SEGMENTATION = {
    "arguments": {
        "frames": "uint8 [b, h, w]: grey values as they are stored, any size",
        "box": "int32 [4]: first row, row after the last, first column, column after the last of the ultrasound sector",
    },
    "results": {"labels": "uint8 [b, h, w]: a label a pixel, background outside the box"},
    "before": [
        "convert colour to grey",
        "find the ultrasound sector: the same box for all frames of a loop",
        "set pixels outside the sector (text, scales, ECG) to 0",
    ],
    "inside": [
        "stretch each frame to [0, 1] by its minimum and maximum within the box",
        "resample the box to {size} x {size} by linear interpolation with antialiasing",
        "network, softmax",
        "resample the probabilities to the box by linear interpolation",
        "choose the most probable class",
    ],
    "not_inside": ["largest region of each structure", "anatomical correction", "temporal correction", "measurements"],
}


def export_model(
    name: str | Path,
    out: str | Path,
    *,
    weights: str | Path | None = None,
    size: int = 224,
    network_only: bool = False,
    part: str | None = None,
    num_points: int = 1,
    platforms: Sequence[str] = PLATFORMS,
) -> dict[str, Any]:
    """Writes a model as a program with metadata: as ONNX if the file is named so, else as StableHLO.

    Args:
        name: A name of `list_models`, or a weight file that says which model it is for.
        out: Target file.
        weights: A weight file for the named model; the packaged one if not given.
        size: Side of the square grid on which frames are segmented.
        network_only: Whether the program takes images to logits, as ONNX does, instead of frames to labels.
        part: Of a Segment Anything model: ``encoder``, ``boxes`` or ``points``, see `sam_program`.
        num_points: Points of a prompt in an ONNX file; free in StableHLO.
        platforms: Where it shall run; ONNX runs anywhere.

    Returns:
        The metadata in the file: the model's card, versions, arguments, results, and the steps before and inside.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If the weights do not fit, or a package is missing.
        ValueError: If the size, a platform or the part is none.
        OSError: If the file cannot be written.
    """
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"size must be from 1 to {MAX_SIZE}, got {size}")
    if unknown := [platform for platform in platforms if platform not in _PLATFORMS]:
        raise ValueError(f"platforms must be among {', '.join(_PLATFORMS)}, got {unknown[0]!r}")
    if num_points < 1:
        raise ValueError(f"num_points must be at least 1, got {num_points}")
    if not platforms:
        raise ValueError("platforms must hold at least one platform")
    model, variables = load(name, weights=weights)
    known = card(name, weights=weights, count=False)
    known.pop("file", None)
    is_onnx = Path(out).suffix == ".onnx"
    if part is None and not network_only and not is_onnx:
        exported = export_segmentation(model, variables, size=size, platforms=platforms)
        steps = {**_SEGMENTATION, "inside": [step.format(size=size) for step in _SEGMENTATION["inside"]]}
    else:
        if part is not None:
            program = sam_program(model, variables, part=part, num_points=num_points if is_onnx else None)
            steps = _part_steps(program)
        else:
            program = network_program(model, variables, input_shape=known["input_shape"], free_sizes=not is_onnx)
            steps = _network_steps(known, program)
        if is_onnx:
            metadata = _describe(known, steps)
            save_onnx(out, program, metadata=metadata)
            return metadata
        exported = export_program(program, platforms=platforms)
    metadata = _describe(known, {**steps, "platforms": list(exported.platforms)})
    save_exported(out, exported, metadata=metadata)
    return metadata


def _shape_text(shape: Sequence[int | str]) -> str:
    return f"float32 [{', '.join(map(str, shape))}]"


def _part_steps(program: Program) -> dict[str, Any]:
    return {
        "arguments": {name: _shape_text(shape) for name, shape in program.arguments.items()},
        "results": dict.fromkeys(program.results, "float32"),
        "not_inside": ["cardiojax.models.sam.preprocess before the encoder", "sam.postprocess after the decoder"],
    }


def _network_steps(known: Mapping[str, Any], program: Program) -> dict[str, Any]:
    shape = _shape_text(program.arguments["images"])
    return {
        "arguments": {"images": f"{shape}: {known.get('input', 'as the model was trained on')}"},
        "results": {"logits": f"float32: {known.get('output', 'scores of the classes')}"},
        "not_inside": ["preprocessing of the images", "softmax", "choice of the class"],
    }


def _describe(known: Mapping[str, Any], steps: Mapping[str, Any]) -> dict[str, Any]:
    versions = {"cardiojax": cardiojax.__version__, "jax": jax.__version__}
    return {**known, **steps, "versions": versions}
