"""``cardiojax evaluate``: the table of the CAMUS paper for a segmentation model."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import clinical, labels, models, ops, storage
from cardiojax.analysis.recording import AnalyzeConfig, make_segment
from cardiojax.analysis.segmentation import Segment, keep_largest
from cardiojax.data.arrays import camus_224
from cardiojax.evaluation.scores import Ejections, Scores, ejections, score
from cardiojax.evaluation.tables import format_clinical, format_table, to_csv, to_dict
from cardiojax.report import figures
from cardiojax.report.output import check_output, staged_output
from cardiojax.zoo.weights import read_metadata

#: Frames that are on the model's grid at a time.
_BATCH = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is scored.

    Attributes:
        data: An ``.npz`` of CAMUS frames of one size with their masks.
        out: Folder for ``table.md``, ``scores.csv``, ``scores.json`` and ``bland_altman.svg``; only printed if not
            given.
        weights: A weight file that ``cardiojax train`` wrote, or one for the model; the packaged one if not given.
        charge_missed: Whether the distance of a structure that was missed is the diagonal of the image, instead of
            being left out of the mean.
        segment: The model and how it is used.
    """

    data: Path
    out: Path | None = None
    weights: Path | None = None
    charge_missed: bool = False
    segment: AnalyzeConfig = AnalyzeConfig()


def evaluate(config: EvaluateConfig) -> str:
    """Predicts, scores, writes and tabulates.

    Args:
        config: What is scored.

    Returns:
        The table as Markdown.

    Raises:
        ValueError: If the data cannot be read, or the model has other classes than the masks.
        WeightsError: If the weights do not fit the model.
        OutputFolderError: If the folder holds files of others or cannot be written.
    """
    if config.out is not None:
        inputs = [config.data] if config.weights is None else [config.data, config.weights]
        check_output(config.out, inputs=inputs)  # before the work
    source = camus_224(config.data)
    examples = [source[i] for i in range(len(source))]
    images, truth, spacing, phases = (
        np.stack([e[name] for e in examples]) for name in ("image", "label", "spacing", "phase")
    )
    segment = _load(config)
    predictions = predict(images, segment, size=config.segment.size)
    if config.segment.largest_component:
        predictions = np.stack([keep_largest(p) for p in predictions])
    scores = score(predictions, truth, spacing, phases, charge_missed=config.charge_missed)
    ejected = ejections(predictions, source)
    model = config.segment.model if config.weights is None else str(config.weights)
    title = " + ".join((model, *config.segment.ensemble))
    table = format_table({title: scores}) + "\n" + format_clinical(title, ejected)
    if config.out is not None:
        _write(config.out, table, scores, ejected, examples)
    return table


def predict(images: np.ndarray, segment: Segment, *, size: int) -> np.ndarray:
    """Segments frames on the grid of a model and brings the labels back, as `cardiojax.analysis` does.

    Args:
        images: Grey values, ``[n, h, w]``.
        segment: Images ``[n, size, size, 1]`` in [0, 1] to class probabilities ``[n, size, size, k]``.
        size: Height and width of the model's grid.

    Returns:
        Label maps, int32 ``[n, h, w]``.

    Raises:
        ValueError: If ``segment`` returns another shape, or another number of classes than the masks have.

    Example:
        >>> import numpy as np
        >>> def segment(images):
        ...     return np.eye(4, dtype=np.float32)[(images[..., 0] > 0.5).astype(int)]  # bright is the cavity
        >>> predict(np.random.default_rng(0).uniform(size=(2, 48, 40)).astype(np.float32), segment, size=32).shape
        (2, 48, 40)
    """
    height, width = images.shape[1:]
    before = jax.jit(functools.partial(models.preprocess, size=size))
    after = jax.jit(functools.partial(models.postprocess, height=height, width=width))

    def one_batch(frames: np.ndarray) -> jax.Array:
        probs = segment(np.asarray(before(frames)))
        expected = (len(frames), size, size, labels.NUM_CLASSES)
        if np.shape(probs) != expected:
            raise ValueError(f"the model returned probabilities {list(np.shape(probs))}, expected {list(expected)}")
        return after(jnp.asarray(probs))

    return ops.map_batches(one_batch, images, batch_size=_BATCH)


def _load(config: EvaluateConfig) -> Segment:
    if config.weights is not None and "model" in read_metadata(config.weights):
        return make_segment(dataclasses.replace(config.segment, model=str(config.weights)))
    return make_segment(config.segment, weights=config.weights)


def _write(out: Path, table: str, scores: Scores, ejected: Ejections, examples: list[dict[str, Any]]) -> None:
    with staged_output(out) as folder:
        (folder / "table.md").write_text(table, "utf-8")
        (folder / "scores.csv").write_text(to_csv(scores, examples), "utf-8")
        (folder / "scores.json").write_text(storage.to_json(to_dict(scores, ejected), indent=2) + "\n", "utf-8")
        pair = [np.asarray(each.fraction) for each in (ejected.measured, ejected.reference)]
        known = np.isfinite(pair).all(0)
        if known.sum() > 1:
            measured, reference = pair[0][known], pair[1][known]
            agreement = clinical.agreement(jnp.asarray(measured), jnp.asarray(reference))
            picture = figures.bland_altman(measured, reference, agreement, name="ejection fraction", unit="%")
            (folder / "bland_altman.svg").write_bytes(picture)
