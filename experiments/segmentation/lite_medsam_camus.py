"""LiteMedSAM on real CAMUS frames as it is released: Dice of what a box holds, against the error of the box.

Boxes are those of the true structures, each side moved by a uniform error of up to 0, 5, 10 and 20 pixels of 224; and
those of what ``unet_camus`` draws. The epicardium holds the cavity and the myocardium. The training data of the
weights are not documented: these frames may be among them.

Run: ``python -m experiments.segmentation.lite_medsam_camus --data DIR/camus224_val.npz --out runs/lite``
after ``cardiojax zoo convert lite_medsam lite_medsam.pth --out FILE``. Writes ``table.md`` and ``scores.json``.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array

from cardiojax import ops, zoo
from cardiojax.analysis import AnalyzeConfig, make_segment
from cardiojax.data.arrays import camus_224, stack_examples
from cardiojax.evaluation import predict
from cardiojax.models import sam
from experiments.common.frames import boxes_of
from experiments.common.phases import dice_by_phase, structures_of, table
from experiments.common.results import write_results

#: Largest error of each side of a box, pixels of the image.
_ERRORS = (0, 5, 10, 20)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is scored.

    Attributes:
        data: CAMUS frames, ``camus224_val.npz``.
        weights: LiteMedSAM; that of ``cardiojax zoo fetch lite_medsam`` if not given.
        out: Folder for the results.
        limit: Frames, 0 for all.
        seed: Of the errors of the boxes.
    """

    data: Path
    weights: Path | None = None
    out: Path
    limit: int = 0
    seed: int = 0


def main(config: Config) -> str:
    """Scores every kind of box and writes the table.

    Args:
        config: What is scored.

    Returns:
        The table as Markdown.
    """
    arrays = stack_examples(camus_224(config.data), limit=config.limit)
    images, truth, phases = (arrays[name] for name in ("image", "label", "phase"))
    model, variables = zoo.load("lite_medsam", weights=config.weights)

    def segment(pair: tuple[Array, Array]) -> Array:
        image, boxes = pair
        embedded = sam.embed_image(model, variables, image[..., None] / 255)
        logits = sam.predict_masks(model, variables, embedded, sam.Prompts(boxes=boxes), size=image.shape).logits
        return logits[..., 0] > 0

    true_boxes, rng = boxes_of(truth), np.random.default_rng(config.seed)
    kinds = {f"truth, sides moved by up to {e}": true_boxes + rng.uniform(-e, e, true_boxes.shape) for e in _ERRORS}
    kinds["`unet_camus`"] = boxes_of(predict(images, make_segment(AnalyzeConfig()), size=224))
    boxes = np.concatenate(list(kinds.values()), 1).astype(np.float32)
    batched = jax.jit(lambda images, boxes: jax.lax.map(segment, (images, boxes)))
    masks = ops.map_batches(batched, images.astype(np.float32), boxes, batch_size=8)
    targets, drawn = structures_of(truth), np.split(masks, len(kinds), 1)
    scores = {kind: dice_by_phase(part, targets, phases) for kind, part in zip(kinds, drawn, strict=True)}
    text = table(scores, title="box")
    write_results(config.out, text, scores)
    return text


if __name__ == "__main__":
    import tyro

    print(main(tyro.cli(Config)), end="")
