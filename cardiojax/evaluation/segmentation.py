"""``cardiojax evaluate``: the table of the CAMUS paper for a segmentation model."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import clinical, labels, models, ops, storage
from cardiojax.analysis.pairs import choose_pair_model, make_pair_segment
from cardiojax.analysis.recording import AnalyzeConfig, make_segment
from cardiojax.analysis.segmentation import Segment, keep_largest
from cardiojax.data.arrays import PHASES, camus_224
from cardiojax.evaluation.scores import Ejections, Scores, ejections, score
from cardiojax.evaluation.tables import format_clinical, format_table, to_csv, to_dict
from cardiojax.report import figures
from cardiojax.report.output import check_output, staged_output

#: Frames that are on the model's grid at a time.
_BATCH = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is scored.

    Attributes:
        data: An ``.npz`` of CAMUS frames of one size with their masks.
        out: Folder for ``table.md``, ``scores.csv``, ``scores.json`` and ``bland_altman.svg``; only printed if not
            given.
        weights: A weight file that ``cardiojax train`` wrote, or the name of a model of the zoo, instead of the
            default model.
        charge_missed: Whether the distance of a structure that was missed is the diagonal of the image, instead of
            being left out of the mean.
        segment: The model and how it is used. A pair network sees both phases of each view.
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
        ValueError: If the data cannot be read, the model has other classes than the masks, or options contradict each
            other.
        WeightsError: If the weights do not fit the model.
        OutputFolderError: If the folder holds files of others or cannot be written.
    """
    if config.out is not None:
        inputs = [config.data] if config.weights is None else [config.data, config.weights]
        check_output(config.out, inputs=inputs)  # before the work
    source = camus_224(config.data)
    examples = [source[i] for i in range(len(source))]
    truth, spacing, phases = (np.stack([e[name] for e in examples]) for name in ("label", "spacing", "phase"))
    networks = _choose(config, examples)
    predictions = _segment(networks, examples)
    scores = score(predictions, truth, spacing, phases, charge_missed=config.charge_missed)
    ejected = ejections(predictions, source)
    title = networks.title
    table = format_table({title: scores}) + "\n" + format_clinical(title, ejected)
    if config.out is not None:
        _write(config.out, table, scores, ejected, examples)
    return table


def segment_examples(config: EvaluateConfig, examples: list[dict[str, Any]]) -> np.ndarray:
    """The label maps that `evaluate` scores.

    Args:
        config: The model and how it is used.
        examples: Examples with ``image``, ``patient``, ``view`` and ``phase``.

    Returns:
        Label maps, int32 ``[n, h, w]``.
    """
    return _segment(_choose(config, examples), examples)


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


class _Networks(NamedTuple):
    """What segments which frames: those of both phases, if there is a pair network, and the others one by one."""

    config: AnalyzeConfig
    pair_model: str | None
    paired: np.ndarray
    alone: np.ndarray

    @property
    def title(self) -> str:
        model = " + ".join((self.config.model, *self.config.ensemble))
        if not self.paired.size:
            return model
        others = f"; {model}, {self.alone.size} other frame{'s' if self.alone.size > 1 else ''}"
        return f"{self.pair_model}, both phases{others if self.alone.size else ''}"


def _choose(config: EvaluateConfig, examples: list[dict[str, Any]]) -> _Networks:
    segment = config.segment
    if config.weights is not None:
        if segment.model != AnalyzeConfig().model:
            raise ValueError("give --segment.model or --weights, not both")
        segment = dataclasses.replace(segment, model=str(config.weights))
    pair_model = choose_pair_model(segment.model, segment.pair_model)
    paired = np.zeros(0, int) if pair_model is None else _pairs(examples)
    alone = np.setdiff1d(np.arange(len(examples)), paired)
    if segment.ensemble and not alone.size:
        raise ValueError(
            f"{pair_model} segments every frame and the ensemble none: give --segment.pair-model none to score it"
        )
    return _Networks(segment, pair_model, paired, alone)


def _segment(networks: _Networks, examples: list[dict[str, Any]]) -> np.ndarray:
    predictions = _predict(networks, np.stack([e["image"] for e in examples]))
    if networks.config.largest_component:
        predictions = np.stack([keep_largest(p) for p in predictions])
    return predictions


def _predict(networks: _Networks, images: np.ndarray) -> np.ndarray:
    config, pair_model, paired, alone = networks
    predictions = np.zeros(images.shape, np.int32)
    if pair_model is not None and paired.size:
        segment = make_pair_segment(pair_model, size=config.size, test_time_augmentation=config.test_time_augmentation)
        predictions[paired] = predict(images[paired], segment, size=config.size)
    if alone.size:
        predictions[alone] = predict(images[alone], make_segment(config), size=config.size)
    return predictions


def _pairs(examples: list[dict[str, Any]]) -> np.ndarray:
    """End-diastole and end-systole of each view in turn, of the views with both."""
    index = {(str(e["patient"]), str(e["view"]), str(e["phase"])): i for i, e in enumerate(examples)}
    views = sorted({key[:2] for key in index})
    pairs = [[index.get((*view, phase), -1) for phase in PHASES] for view in views]
    return np.array([pair for pair in pairs if min(pair) >= 0], int).reshape(-1)


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
