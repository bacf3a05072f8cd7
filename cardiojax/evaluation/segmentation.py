"""``cardiojax evaluate``: the table of the CAMUS paper for a segmentation model, for any structures."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import clinical, labels, models, ops, storage, train
from cardiojax.analysis.pairs import choose_pair_model, make_pair_segment
from cardiojax.analysis.recording import AnalyzeConfig, make_segment
from cardiojax.analysis.segmentation import Devices, Segment, clean_labels, require_probabilities
from cardiojax.data.arrays import ArraySource, camus_224, stack_examples
from cardiojax.data.datasets import FrameSource, open_frames
from cardiojax.evaluation.scores import Ejections, Scores, ejections, index_frames, no_ejections, score
from cardiojax.evaluation.tables import format_clinical, format_table, to_csv, to_dict
from cardiojax.labels import PHASES
from cardiojax.report import figures
from cardiojax.report.output import check_output, staged_output

#: Frames that are on the model's grid at a time.
_BATCH = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is scored.

    Attributes:
        data: An ``.npz`` of CAMUS frames of one size with their masks, or the folder of ``cardiojax data build``.
        datasets: Built datasets in that folder; the only one if not given.
        split: Split of the built datasets.
        out: Folder for ``table.md``, ``scores.csv``, ``scores.json`` and ``bland_altman.svg``; only printed if not
            given.
        weights: A weight file that ``cardiojax train`` wrote, or the name of a model of the zoo, instead of the
            default model.
        charge_missed: Whether the distance of a structure that was missed is the diagonal of the image, instead of
            being left out of the mean.
        segment: The model and how it is used. A pair network sees both phases of each view that has one frame of each.
        mesh: Devices and processes that share the prediction. Each process reads the data, the first one writes.
    """

    data: Path
    datasets: tuple[str, ...] = ()
    split: str = "validation"
    out: Path | None = None
    weights: Path | None = None
    charge_missed: bool = False
    segment: AnalyzeConfig = AnalyzeConfig()
    mesh: train.MeshConfig = train.MeshConfig()


def evaluate(config: EvaluateConfig) -> str:
    """Predicts, scores, writes and tabulates.

    Args:
        config: What is scored.

    Returns:
        The table as Markdown.

    Raises:
        ValueError: If the data cannot be read, the model has other classes than the masks, or options contradict each
            other or the devices.
        WeightsError: If the weights do not fit the model.
        OutputFolderError: If the folder holds files of others or cannot be written.
    """
    out = config.out
    if out is not None:
        inputs = [config.data] if config.weights is None else [config.data, config.weights]
        train.on_writer(lambda: check_output(out, inputs=inputs))  # before the work
    source = _open(config)
    examples = [source[i] for i in range(len(source))]
    networks = _choose(config, examples)
    predictions, classes, known = _segment(networks, examples)
    arrays, regions = _in_classes(source, classes, known)
    scores = score(
        predictions,
        arrays["label"],
        arrays["spacing"],
        arrays["phase"],
        structures=regions,
        present=arrays.get("present"),
        charge_missed=config.charge_missed,
    )
    ejected = _ejections(predictions, arrays, regions)
    options = {"intra_observer": {*source.datasets} <= {"camus", "camus_mhd"}}
    title = networks.title
    table = format_table({title: scores}, **options) + "\n" + format_clinical(title, ejected, **options)
    if left_out := [name for name in source.structures.regions if name not in regions]:
        table += f"\nNot scored, since {title} does not draw it: {', '.join(left_out)}.\n"
    if out is not None:
        train.on_writer(lambda: _write(out, table, scores, ejected, examples))
    return table


def _open(config: EvaluateConfig) -> FrameSource:
    if config.data.is_dir():
        return open_frames(config.data, config.split, size=config.segment.size, datasets=config.datasets)
    return FrameSource([(camus_224(config.data), labels.CAMUS)], datasets=("camus",))


def _in_classes(
    source: FrameSource, classes: labels.Structures, known: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, ...]]]:
    """The frames with the labels of the network, and the regions that both have, by the names of their structures."""
    truth = source.structures
    common = classes.union(truth)
    new_labels = truth.labels_in(common)
    regions = {
        name: tuple(new_labels[label] for label in members)
        for name, members in truth.regions.items()
        if all(truth.names[label] in known for label in members)
    }
    if not regions:
        raise ValueError(
            f"the network draws {', '.join(known[1:])}, the masks show {', '.join(truth.names[1:])}: nothing to score"
        )
    arrays = stack_examples(source)
    arrays["label"] = np.array(new_labels, np.int32)[arrays["label"]]
    if "present" in arrays:
        columns = [truth.names.index(name) if name in truth.names else 0 for name in common.names]
        arrays["present"] = arrays["present"][:, columns]
    return arrays, regions


def _ejections(
    predictions: np.ndarray, arrays: dict[str, np.ndarray], regions: dict[str, tuple[int, ...]]
) -> Ejections:
    """Ejection fractions of frames with a cavity, a wall and a pixel spacing."""
    if not {"lv", "epicardium"} <= set(regions):
        return no_ejections()
    usable = np.isfinite(arrays["spacing"]).all(1)
    if "present" in arrays:
        usable &= arrays["present"][:, regions["epicardium"]].all(1)
    if not usable.any():
        return no_ejections()
    return ejections(predictions[usable], ArraySource({name: array[usable] for name, array in arrays.items()}))


def segment_examples(config: EvaluateConfig, examples: list[dict[str, Any]]) -> np.ndarray:
    """The label maps that `evaluate` scores.

    Args:
        config: The model and how it is used.
        examples: Examples with ``image``, ``patient``, ``view`` and ``phase``.

    Returns:
        Label maps, int32 ``[n, h, w]``.
    """
    return _segment(_choose(config, examples), examples)[0]


def predict(images: np.ndarray, segment: Segment, *, size: int) -> np.ndarray:
    """Segments frames on the grid of a model and brings the labels back, as `cardiojax.analysis` does.

    Args:
        images: Grey values, ``[n, h, w]``.
        segment: Images ``[n, size, size, 1]`` in [0, 1] to probabilities ``[n, size, size, k]`` of the classes of
            CAMUS, or of those that it states.
        size: Height and width of the model's grid.

    Returns:
        Label maps, int32 ``[n, h, w]``.

    Raises:
        ValueError: If ``segment`` returns another shape, or another number of classes.

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
        resized = np.asarray(before(frames))
        probs = segment(resized)
        require_probabilities(probs, resized, segment)
        return after(jnp.asarray(probs))

    return ops.map_batches(one_batch, images, batch_size=_BATCH)


class _Networks(NamedTuple):
    """What segments which frames: those of both phases, if there is a pair network, and the others one by one."""

    config: AnalyzeConfig
    pair_model: str | None
    paired: np.ndarray
    alone: np.ndarray
    devices: Devices | None

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
    return _Networks(segment, pair_model, paired, alone, _devices(config.mesh))


def _devices(config: train.MeshConfig) -> Devices | None:
    mesh = train.make_mesh(config)
    if mesh is None:
        return None

    def place(variables: Any) -> Any:
        fully_sharded = "data" if config.fully_sharded else None
        return train.place(variables, train.shardings(variables, mesh, fully_sharded=fully_sharded))

    return Devices(mesh, place)


def _segment(
    networks: _Networks, examples: list[dict[str, Any]]
) -> tuple[np.ndarray, labels.Structures, tuple[str, ...]]:
    """Label maps, what their labels mean, and the structures that the networks draw."""
    predictions, classes, known = _predict(networks, np.stack([e["image"] for e in examples]))
    cleaned = clean_labels(
        predictions,
        batch_size=_BATCH,
        separate_atrium=networks.config.separate_atrium,
        largest_component=networks.config.largest_component,
    )
    return cleaned, classes, known


def _predict(networks: _Networks, images: np.ndarray) -> tuple[np.ndarray, labels.Structures, tuple[str, ...]]:
    config, pair_model, paired, alone, devices = networks
    predictions = np.zeros(images.shape, np.int32)
    classes, known = labels.CAMUS, labels.CAMUS.names
    if pair_model is not None and paired.size:
        augment = config.test_time_augmentation
        segment = make_pair_segment(pair_model, size=config.size, test_time_augmentation=augment, devices=devices)
        predictions[paired] = predict(images[paired], segment, size=config.size)
    if alone.size:
        segment = make_segment(config, devices=devices)
        classes, known = segment.structures, segment.known
        predictions[alone] = predict(images[alone], segment, size=config.size)
    return predictions, classes, known


def _pairs(examples: list[dict[str, Any]]) -> np.ndarray:
    """End-diastole and end-systole of each view in turn, of the views with one frame of each.

    Where there are several, as of the slices of a stack, it is unknown which of them belong together.
    """
    index = index_frames(examples)
    views = sorted({key[:2] for key in index})
    pairs = [[index.get((*view, phase), []) for phase in PHASES] for view in views]
    return np.array([pair for pair in pairs if [len(frames) for frames in pair] == [1, 1]], int).reshape(-1)


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
