"""``cardiojax zoo``: lists, describes, converts and exports models."""

import json
from pathlib import Path

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
        name: Its name.
    """
    print(json.dumps(zoo.card(name), indent=2))


def convert(name: str, file: Path, /, *, out: Path, dtype: str = "float32") -> None:
    """Turns a checkpoint of a model's original project into a weight file of ours.

    Args:
        name: The model.
        file: The .pth or .safetensors file; nothing in it is executed.
        out: Target file, .safetensors.
        dtype: Type of the numbers in it.
    """
    zoo.save(out, name, zoo.load_original(name, file)["params"], dtype=dtype)
    print(f"{name}: {out}")


def export(
    name: str,
    /,
    *,
    out: Path,
    weights: Path | None = None,
    side: int = 224,
    network_only: bool = False,
    platforms: tuple[str, ...] = ("cpu", "cuda", "tpu"),
) -> None:
    """Writes a model as a StableHLO program, or its network as ONNX if the file is named so.

    Args:
        name: The model.
        out: Target file.
        weights: A weight file for it; the packaged one if not given.
        side: Side of the square grid on which it segments.
        network_only: Images to logits, instead of stored frames to masks.
        platforms: Where it shall run.
    """
    model, variables = zoo.load(name, weights=weights)
    shape = zoo.entry(name).input_shape
    if out.suffix == ".onnx":
        zoo.save_onnx(out, model, variables, input_shape=shape)
        print(f"{name} as ONNX: {out}")
        return
    if network_only:
        exported = zoo.export_network(model, variables, input_shape=shape, platforms=platforms)
    else:
        exported = zoo.export_segmentation(model, variables, side=side, platforms=platforms)
    zoo.save_exported(out, exported)
    print(f"{name} for {', '.join(exported.platforms)}: {out}")
