"""Files for programs without this package: a model as StableHLO or ONNX, with what its users must know of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import cardiojax
from cardiojax.validation import MAX_SIZE
from cardiojax.zoo.export import PLATFORMS, export_network, export_segmentation, save_exported, save_onnx
from cardiojax.zoo.loading import card, load

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
    platforms: Sequence[str] = PLATFORMS,
) -> dict[str, Any]:
    """Writes a model as a program with metadata: as ONNX if the file is named so, else as StableHLO.

    Args:
        name: A name of `list_models`, or a weight file that says which model it is for.
        out: Target file.
        weights: A weight file for the named model; the packaged one if not given.
        size: Side of the square grid on which frames are segmented.
        network_only: Whether the program takes images to logits, as ONNX does, instead of frames to labels.
        platforms: Where it shall run; ONNX runs anywhere.

    Returns:
        The metadata in the file: the model's card, versions, arguments, results, and the steps before and inside.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If the weights do not fit, or a package is missing.
        ValueError: If the size or a platform is none.
        OSError: If the file cannot be written.
    """
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"size must be from 1 to {MAX_SIZE}, got {size}")
    if unknown := [platform for platform in platforms if platform not in _PLATFORMS]:
        raise ValueError(f"platforms must be among {', '.join(_PLATFORMS)}, got {unknown[0]!r}")
    if not platforms:
        raise ValueError("platforms must hold at least one platform")
    model, variables = load(name, weights=weights)
    known = card(name, weights=weights, count=False)
    known.pop("file", None)
    shape = known["input_shape"]
    if Path(out).suffix == ".onnx":
        metadata = _describe(known, _network_steps(known, f"[b, {', '.join(map(str, shape[1:]))}]"))
        save_onnx(out, model, variables, input_shape=shape, metadata=metadata)
        return metadata
    if network_only:
        exported = export_network(model, variables, input_shape=shape, platforms=platforms)
        steps = _network_steps(known, str(exported.in_avals[0].shape).replace("(", "[").replace(")", "]"))
    else:
        exported = export_segmentation(model, variables, size=size, platforms=platforms)
        steps = {**_SEGMENTATION, "inside": [step.format(size=size) for step in _SEGMENTATION["inside"]]}
    metadata = _describe(known, {**steps, "platforms": list(exported.platforms)})
    save_exported(out, exported, metadata=metadata)
    return metadata


def _network_steps(known: Mapping[str, Any], shape: str) -> dict[str, Any]:
    return {
        "arguments": {"images": f"float32 {shape}: {known.get('input', 'as the model was trained on')}"},
        "results": {"logits": f"float32: {known.get('output', 'scores of the classes')}"},
        "not_inside": ["preprocessing of the images", "softmax", "choice of the class"],
    }


def _describe(known: Mapping[str, Any], steps: Mapping[str, Any]) -> dict[str, Any]:
    versions = {"cardiojax": cardiojax.__version__, "jax": jax.__version__}
    return {**known, **steps, "versions": versions}
