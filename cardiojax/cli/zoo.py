"""``cardiojax zoo``: lists, describes, converts and exports models."""

import json
from pathlib import Path
from typing import Literal

from cardiojax import zoo


def list_command(pattern: str = "*") -> None:
    """Lists the models of the zoo.

    Args:
        pattern: A shell-style pattern.
    """
    for name in zoo.list_models(pattern):
        print(name)


def show(name: str, /) -> None:
    """Prints the card of a model.

    Args:
        name: Its name, or a weight file that names its model.
    """
    print(json.dumps(zoo.card(name), indent=2))


def fetch(name: str, /, *, folder: Path | None = None) -> None:
    """Downloads the original weights of a model and converts them.

    Args:
        name: The model.
        folder: Where the converted weights are kept; by default where every command looks for them.
    """
    print(f"{name}: {zoo.fetch(name, folder=folder)}")


def convert(name: str, file: Path, /, *, out: Path, dtype: str = "float32", override: tuple[str, ...] = ()) -> None:
    """Converts a checkpoint of a model's original project to a weight file.

    Args:
        name: The model.
        file: The .pth or .safetensors file; nothing in it is executed.
        out: Target file, .safetensors.
        dtype: Type of the numbers in it.
        override: Changed fields of the model's configuration, as num_classes=2 image_size=512.
    """
    _require_other(out, file)
    fields = zoo.parse_overrides(override)
    params = zoo.load_original(name, file, **fields)["params"]
    zoo.save(out, name, params, file_dtype=dtype, card={"converted_from": file.name}, **fields)
    print(f"{name}: {out}")


def export(
    name: str,
    /,
    *,
    out: Path,
    weights: Path | None = None,
    size: int = 224,
    network_only: bool = False,
    part: Literal["encoder", "boxes", "points"] | None = None,
    num_points: int = 1,
    platforms: tuple[str, ...] = ("cpu", "cuda", "tpu"),
) -> None:
    """Writes a model as a StableHLO program, or its network as ONNX if the file is named so.

    Args:
        name: The model, or a weight file that names its model.
        out: Target file.
        weights: A weight file for it; the packaged one if not given.
        size: Side of the square grid on which it segments.
        network_only: Images to logits, instead of stored frames and the box of their sector to labels.
        part: Of a Segment Anything model: its image encoder, or its decoder with boxes or points as prompts.
        num_points: Points of a prompt in an ONNX file; any number in StableHLO.
        platforms: Target platforms.
    """
    for file in (Path(name), weights):
        _require_other(out, file)
    exported = zoo.export_model(
        name,
        out,
        weights=weights,
        size=size,
        network_only=network_only,
        part=part,
        num_points=num_points,
        platforms=platforms,
    )
    print(f"{exported['name']} for {', '.join(exported.get('platforms', ['ONNX']))}: {out}")


def _require_other(out: Path, file: Path | None) -> None:
    """Refuses a target that is the file to be read."""
    if file is not None and file.exists() and out.exists() and out.samefile(file):
        raise ValueError(f"{out} is the file that is read, expected another one for the output")
