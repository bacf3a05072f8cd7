"""Scores of label maps against reference masks: overlap, distances, volumes and ejection fractions."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import clinical, labels, metrics, ops
from cardiojax.data.arrays import ArraySource
from cardiojax.labels import PHASES

METRICS = ("dice", "hausdorff", "mean_absolute_distance")

#: Frames a call of the jitted metrics; more at once is slower on a CPU, whose caches they exceed.
_BATCH = 10


class Scores(NamedTuple):
    """Scores of each frame.

    Attributes:
        values: ``values[structure][metric]`` is ``[n]``, distances in mm; a distance is nan where a mask is empty.
        missed: ``missed[structure]`` is ``[n]``: whether one of prediction and truth has the structure and the other
            does not.
        phases: ``"ED"``, ``"ES"`` or ``"frame"`` of each frame.
    """

    values: dict[str, dict[str, np.ndarray]]
    missed: dict[str, np.ndarray]
    phases: np.ndarray


class MeanScore(NamedTuple):
    """A metric over frames.

    Attributes:
        mean: Mean of the values that are numbers; nan if there is none.
        std: Their standard deviation.
        count: How many those are.
        num_missed: Frames in which the structure was missed. Their Dice coefficient is 0; their distance is not in the
            mean, unless misses are charged.
    """

    mean: float
    std: float
    count: int
    num_missed: int


class Ejections(NamedTuple):
    """Biplane volumes and ejection fractions by the CAMUS rule, of patients with both views and both phases.

    Attributes:
        patients: Names.
        measured: From the predictions; the fraction is nan where none can be measured.
        reference: From the true masks.
        incomplete: Names of the patients that lack one of these four frames.
        repeated: Names of the patients of whom one of these frames is there more than once, as in two recordings of
            one view; which of them belong together is unknown.
    """

    patients: list[str]
    measured: clinical.Ejection
    reference: clinical.Ejection
    incomplete: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()

    @property
    def failed(self) -> dict[str, str]:
        """Patients whose ejection fraction could not be measured, and why."""
        reasons = {}
        for i, patient in enumerate(self.patients):
            volumes = self.measured.end_diastolic[i], self.measured.end_systolic[i]
            if not np.isfinite(volumes).all():
                reasons[patient] = "no outline of the left ventricle"
            elif not np.isfinite(self.measured.fraction[i]):
                reasons[patient] = "end-systolic volume not below the end-diastolic one"
        return reasons


def score(
    predictions: np.ndarray,
    truth: np.ndarray,
    spacing: np.ndarray,
    phases: np.ndarray,
    *,
    structures: Mapping[str, tuple[int, ...]] = labels.STRUCTURES,
    present: np.ndarray | None = None,
    charge_missed: bool = False,
) -> Scores:
    """Scores label maps.

    Args:
        predictions: ``[n, h, w]``, integers.
        truth: ``[n, h, w]``, integers.
        spacing: ``(dy, dx)`` of each frame in mm, ``[n, 2]``; where it is nan, so are the distances.
        phases: ``"ED"``, ``"ES"`` or ``"frame"`` of each frame, ``[n]``.
        structures: What is scored, by name: the labels that it consists of.
        present: Which labels are annotated in each frame, ``[n, k]``; all if not given. The scores of the others are
            nan.
        charge_missed: Whether the distance of a structure that was missed is the diagonal of the image.

    Returns:
        The scores of each frame.

    Example:
        >>> import numpy as np
        >>> masks = np.zeros((2, 32, 32), np.int32)
        >>> masks[:, 4:24, 8:24], masks[:, 8:24, 12:20], masks[:, 24:30, 8:24] = 2, 1, 3
        >>> scores = score(masks, masks, np.ones((2, 2), np.float32), np.array(["ED", "ES"]))
        >>> summary(scores)["lv"]["ED"]["dice"].mean
        1.0
    """
    members = tuple(structures.values())
    spacing, has_spacing = np.nan_to_num(spacing, nan=1.0), np.isfinite(spacing).all(1, keepdims=True)
    one_batch = functools.partial(_score_batch, structures=members, charge_missed=charge_missed)
    values, missed = ops.map_batches(one_batch, predictions, truth, spacing, batch_size=_BATCH)
    known = np.ones(missed.shape, bool)
    if present is not None:
        known = np.stack([present[:, group].all(1) for group in members], 1)
    for metric in METRICS:
        is_measured = known if metric == "dice" else known & has_spacing
        values[metric] = np.where(is_measured, values[metric], np.nan)
    columns = {name: k for k, name in enumerate(structures)}
    return Scores(
        {name: {metric: values[metric][:, k] for metric in METRICS} for name, k in columns.items()},
        {name: (missed & known)[:, k] for name, k in columns.items()},
        np.asarray(phases),
    )


@functools.partial(jax.jit, static_argnames=("structures", "charge_missed"))
def _score_batch(predicted, true, spacing, *, structures, charge_missed):
    one, other = (metrics.class_masks(each.astype(jnp.int32), structures) for each in (predicted, true))
    spacing = spacing.astype(jnp.float32)[:, None]
    values = {
        "dice": metrics.dice(one, other),
        "hausdorff": metrics.hausdorff(one, other, spacing, charge_missed=charge_missed),
        "mean_absolute_distance": metrics.mean_absolute_distance(one, other, spacing, charge_missed=charge_missed),
    }
    return values, metrics.is_missed(one, other)


def ejections(predictions: np.ndarray, source: ArraySource) -> Ejections:
    """Biplane volumes and ejection fractions by the CAMUS rule, from predictions and from the true masks.

    Args:
        predictions: ``[n, h, w]`` in the order of the source.
        source: Examples with patient, view, phase, label and spacing.

    Returns:
        Patients that have each of the four frames once, and the names of the others.
    """
    examples = [source[i] for i in range(len(source))]
    spacing = jnp.asarray(np.stack([e["spacing"] for e in examples]))
    index = index_frames(examples)
    frames = [(view, phase) for view in labels.MEASURED_VIEWS for phase in PHASES]
    everyone = sorted({key[0] for key in index})
    counts = {p: [len(index.get((p, *frame), ())) for frame in frames] for p in everyone}
    patients = [p for p in everyone if counts[p] == [1] * len(frames)]
    repeated = tuple(p for p in everyone if max(counts[p]) > 1)
    incomplete = tuple(p for p in everyone if p not in patients and p not in repeated)
    if not patients:
        return no_ejections(incomplete, repeated)

    @jax.jit
    def eject(masks):
        cuts = clinical.disks(masks, spacing)
        rows = [jnp.array([index[(p, *frame)][0] for p in patients]) for frame in frames]
        two_ed, two_es, four_ed, four_es = (clinical.Disks(cuts.diameters[r], cuts.length[r]) for r in rows)
        return clinical.biplane_ejection((two_ed, two_es), (four_ed, four_es), rule="camus")

    truth = np.stack([e["label"] for e in examples])
    measured, reference = (
        jax.tree.map(np.asarray, eject(jnp.asarray(masks, jnp.int32))) for masks in (predictions, truth)
    )
    return Ejections(patients, measured, reference, incomplete, repeated)


def index_frames(examples: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, str], list[int]]:
    """Finds the frames of each patient, view and phase.

    Args:
        examples: Examples with patient, view and phase.

    Returns:
        Indices by ``(patient, view, phase)``, in order.

    Example:
        >>> index_frames([{"patient": "a", "view": "4CH", "phase": phase} for phase in ("ED", "frame", "frame")])
        {('a', '4CH', 'ED'): [0], ('a', '4CH', 'frame'): [1, 2]}
    """
    index: dict[tuple[str, str, str], list[int]] = {}
    for i, example in enumerate(examples):
        index.setdefault((str(example["patient"]), str(example["view"]), str(example["phase"])), []).append(i)
    return index


def no_ejections(incomplete: tuple[str, ...] = (), repeated: tuple[str, ...] = ()) -> Ejections:
    """The ejection fractions of data in which there are none.

    Args:
        incomplete: Names of the patients that lack a frame.
        repeated: Names of the patients of whom a frame is there more than once.

    Returns:
        Empty arrays.
    """
    nothing = clinical.Ejection(*(np.zeros(0, np.float32),) * 3)  # pyright: ignore[reportArgumentType]
    return Ejections([], nothing, nothing, incomplete, repeated)


def phase_groups(phases: np.ndarray) -> tuple[str, ...]:
    """The phases of which means are taken: end-diastole and end-systole, and other frames if there are any.

    Args:
        phases: That of each frame.

    Returns:
        Their names in order.

    Example:
        >>> phase_groups(np.array(["ED"])), phase_groups(np.array(["frame", "ES"]))
        (('ED', 'ES'), ('ES', 'frame'))
    """
    if np.isin(phases, PHASES).all():
        return PHASES
    return tuple(name for name in (*PHASES, "frame") if name in phases)


def summary(scores: Scores) -> dict[str, dict[str, dict[str, MeanScore]]]:
    """Takes means and standard deviations by structure, phase and metric.

    Args:
        scores: Scores of each frame.

    Returns:
        ``[structure][phase][metric]``.

    Example:
        >>> import numpy as np
        >>> masks = np.zeros((2, 32, 32), np.int32)
        >>> masks[:, 4:24, 8:24], masks[:, 8:24, 12:20], masks[:, 24:30, 8:24] = 2, 1, 3
        >>> scores = score(masks, masks, np.ones((2, 2), np.float32), np.array(["ED", "ES"]))
        >>> summary(scores)["epicardium"]["ES"]["hausdorff"].mean
        0.0
    """
    return {
        name: {
            phase: {
                metric: _mean(values[metric][scores.phases == phase], scores.missed[name][scores.phases == phase])
                for metric in METRICS
            }
            for phase in phase_groups(scores.phases)
        }
        for name, values in scores.values.items()
    }


def _mean(values: np.ndarray, missed: np.ndarray) -> MeanScore:
    known = values[np.isfinite(values)]
    mean, std = (float(known.mean()), float(known.std())) if known.size else (float("nan"), float("nan"))
    return MeanScore(mean, std, int(known.size), int(missed.sum()))
