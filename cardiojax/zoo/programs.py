"""Functions of a model that are exported by themselves, with the names and shapes of what they take and return."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from cardiojax.models import sam

#: What `sam_program` knows.
SAM_PARTS = ("encoder", "boxes", "points")


class Program(NamedTuple):
    """A function of float32 arrays, the weights inside.

    Attributes:
        function: Takes the arguments in their order.
        arguments: Shape of each by its name. Text stands for a free size: ``"b"``, or ``"16*h"`` for a multiple of 16.
        results: Names of what it returns.
    """

    function: Callable[..., Any]
    arguments: dict[str, tuple[int | str, ...]]
    results: tuple[str, ...]


def network_program(model: Any, variables: PyTree, *, input_shape: Sequence[int], free_sizes: bool = True) -> Program:
    """Makes the program from images to logits.

    The batch is free. So are the sizes, in steps of the model's ``divisor``, where it has one; else they are those of
    ``input_shape``.

    Args:
        model: A module whose output has ``logits``.
        variables: Its variables.
        input_shape: ``(n, *size, channels)`` as in `Entry`.
        free_sizes: Whether sizes are free where the model allows it.

    Returns:
        The program.
    """
    sizes: list[int | str] = list(input_shape[1:-1])
    divisor = getattr(model, "divisor", None)
    if free_sizes and divisor is not None:
        steps = (divisor,) * len(sizes) if isinstance(divisor, int) else divisor
        sizes = [f"{step}*{name}" for step, name in zip(steps, "hwd", strict=False)]

    def network(images: Array) -> Array:
        return model.apply(variables, images).logits

    return Program(network, {"images": ("b", *sizes, input_shape[-1])}, ("logits",))


def sam_program(model: Any, variables: PyTree, *, part: str, num_points: int | None = None) -> Program:
    """Makes the program of one part of a Segment Anything model, so that an image is encoded once for many prompts.

    ==========  =================================================================  ==============================
    part        arguments                                                          results
    ==========  =================================================================  ==============================
    `encoder`   ``images [b, s, s, c]``, as `sam.preprocess` returns them          ``features [b, g, g, d]``
    `boxes`     ``features``, ``boxes [b, 4]`` (top, left, bottom, right)          ``logits``, ``quality [b, 4]``
    `points`    ``features``, ``points [b, n, 2]`` (row, column), ``labels [b, n]``  ``logits``, ``quality [b, 4]``
    ==========  =================================================================  ==============================

    Coordinates are pixels of the model's input; labels are 1 inside the object, 0 outside, -1 no point. For ``n``
    prompts of one image its features are repeated.

    Args:
        model: A SAM.
        variables: Its variables.
        part: One of `SAM_PARTS`; volumes know no boxes.
        num_points: Points of a prompt; free if not given.

    Returns:
        The program.

    Raises:
        ValueError: If there is no such part, or the model is none of this family.
    """
    if not isinstance(model, sam.SAM):
        raise ValueError(f"parts are those of a Segment Anything model, got {type(model).__name__}")
    config = model.config
    kinds = SAM_PARTS if config.num_axes == 2 else ("encoder", "points")
    if part not in kinds:
        raise ValueError(f"part must be {', '.join(kinds)}, got {part!r}")
    features = ("b", *(config.grid,) * config.num_axes, config.prompt_dim)

    if part == "encoder":
        shape = ("b", *(config.image_size,) * config.num_axes, config.channels)
        return Program(lambda images: model.apply(variables, images, method="embed"), {"images": shape}, ("features",))

    def decode(features: Array, prompts: sam.Prompts) -> tuple[Array, Array]:
        output: Any = model.apply(variables, features, prompts, method="decode")
        return output.logits, output.quality

    if part == "boxes":
        return Program(
            lambda features, boxes: decode(features, sam.Prompts(boxes=boxes)),
            {"features": features, "boxes": ("b", 4)},
            ("logits", "quality"),
        )
    count = "n" if num_points is None else num_points
    return Program(
        lambda features, points, labels: decode(features, sam.Prompts(points=points, labels=labels.astype(jnp.int32))),
        {"features": features, "points": ("b", count, config.num_axes), "labels": ("b", count)},
        ("logits", "quality"),
    )
