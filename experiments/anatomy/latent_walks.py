"""Ways through the space of heart shapes, drawn.

The packaged autoencoders decode codes on three kinds of way: each of the seven dimensions of ``arvae_camus`` that
follows an attribute, from two standard deviations below the mean code to two above; from end-diastole to end-systole of
one patient in ``cvae_camus``; and from one patient to another in it. Under each shape stands whether it passes the 12
criteria.

Run: ``python -m experiments.anatomy.latent_walks --data DIR/camus_224 --out FIGURES`` (a minute on two cores). Writes
``latent_walks.png`` and ``latent_walks.json`` with the attribute that each traversal moves and the share of valid
shapes on every way. Expected: each attribute moves monotonically with its dimension. The shapes are decoded from
weights under CC BY-NC-SA 4.0.
"""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageDraw

from cardiojax import anatomy, latent
from cardiojax.correction.anatomical import Shapes, load_shapes
from cardiojax.data.arrays import camus_224, stack_examples
from cardiojax.labels import PHASES
from cardiojax.recipes.bank import encode_all

#: Background, LV cavity, myocardium, left atrium: the colours of the report's outlines on white.
_COLOURS = np.array([(255, 255, 255), (86, 180, 233), (230, 159, 0), (0, 190, 125)], np.uint8)
_SIDE, _MARGIN, _TITLE = 112, 6, 190


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is drawn.

    Attributes:
        data: Folder with ``camus224_val.npz``.
        out: Folder for the figure.
        num: Shapes on a way.
        reach: Ends of a traversal, in standard deviations of the codes.
        patients: The two whose shapes are the ends of the other ways, by their place in the split.
    """

    data: Path
    out: Path
    num: int = 9
    reach: float = 2.0
    patients: tuple[int, int] = (0, 7)


def traversals(shapes: Shapes, codes: Float[np.ndarray, "n d"], config: Config) -> dict[str, Float[jax.Array, "m d"]]:
    """Codes along each attribute's dimension, through the mean code."""
    mean, std = codes.mean(0), codes.std(0)
    return {
        name: latent.traverse(
            jnp.asarray(mean), dim, mean[dim] + std[dim] * jnp.linspace(-config.reach, config.reach, config.num)
        )
        for dim, name in enumerate(anatomy.Attributes._fields)
    }


def main(config: Config) -> dict[str, dict]:
    """Draws the figure; returns what was measured on each way."""
    arrays = stack_examples(camus_224(config.data / "camus224_val.npz"))
    masks, is_four_chamber = arrays["label"].astype(np.int32), arrays["view"] == "4CH"
    views = [np.flatnonzero(is_four_chamber & (arrays["phase"] == phase)) for phase in PHASES]

    ordered, constrained = load_shapes("arvae_camus"), load_shapes("cvae_camus")
    ways = {name: (ordered, way) for name, way in traversals(ordered, encode_all(ordered, masks), config).items()}
    codes = encode_all(constrained, masks)
    first, second = config.patients
    for name, start, end in (
        ("end-diastole to end-systole", views[0][first], views[1][first]),
        ("one patient to another", views[0][first], views[0][second]),
    ):
        ways[name] = constrained, latent.interpolate(jnp.asarray(codes[start]), jnp.asarray(codes[end]), config.num)

    decode = jax.jit(lambda codes: ordered.decode(codes, 224, 224)), jax.jit(lambda c: constrained.decode(c, 224, 224))
    is_valid, measure = jax.jit(anatomy.is_valid), jax.jit(anatomy.attributes)
    rows, table = [], {}
    for name, (shapes, way) in ways.items():
        drawn = decode[shapes is constrained](way)
        valid = np.asarray(is_valid(drawn))
        table[name] = {"valid": float(valid.mean())}
        if name in anatomy.Attributes._fields:
            table[name]["attribute"] = [round(float(v), 3) for v in getattr(measure(drawn), name)]
        rows.append(_row(name.replace("_", " "), np.asarray(drawn), valid))
    config.out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).quantize(48).save(config.out / "latent_walks.png", optimize=True)
    (config.out / "latent_walks.json").write_text(json.dumps(table, indent=2) + "\n")
    return table


def _row(title: str, masks: Int[np.ndarray, "n h w"], valid: np.ndarray) -> np.ndarray:
    """A title and shapes side by side; a dash under those that are not valid."""
    step = _SIDE + _MARGIN
    picture = Image.new("RGB", (_TITLE + step * len(masks), step), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((8, step // 2 - 6), title, fill="black", font_size=13)
    for i, mask in enumerate(masks):
        left = _TITLE + i * step
        shape = Image.fromarray(_COLOURS[mask]).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        picture.paste(shape, (left, 0))
        if not valid[i]:
            draw.line((left + 30, step - 3, left + _SIDE - 30, step - 3), fill=(213, 94, 0), width=3)
    return np.asarray(picture)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
