"""How well the numbers of a study agree with those of an expert's outlines.

Run: ``python -m experiments.segmentation.study_agreement --data DIR``

``DIR`` holds ``camus224_val.npz``. Each patient is a study of four stills, analysed by
`cardiojax.study.analyze_study` with the default networks and corrections; the same numbers are measured on the true
masks. Prints two tables as Markdown: the ejection fraction by the CAMUS rule on the outlines that ``cardiojax
evaluate`` scores, by both programs; and the agreement of each number, from which `cardiojax.study.precision` is made.
Four minutes on two CPU cores.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from cardiojax import clinical
from cardiojax.analysis.recording import AnalyzeConfig
from cardiojax.analysis.view import ViewEstimate
from cardiojax.data import Recording
from cardiojax.data.arrays import camus_224
from cardiojax.evaluation.scores import ejections
from cardiojax.evaluation.segmentation import EvaluateConfig, segment_examples
from cardiojax.labels import MEASURED_VIEWS, PHASES, VIEWS
from cardiojax.measurement.motion import measure_motion
from cardiojax.study import Analyzer, StudyMeasurements, View, analyze_study, measure_study
from cardiojax.study.quantities import DEFINITIONS
from cardiojax.study.view import Strains


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is measured.

    Attributes:
        data: Folder of ``camus224_val.npz``.
        num_patients: Patients in the order of their names; all if not given.
    """

    data: Path
    num_patients: int | None = None


class Patients:
    """The frames of the patients that have both phases of both views."""

    def __init__(self, path: Path, num_patients: int | None):
        self.source = camus_224(path)
        examples = [self.source[i] for i in range(len(self.source))]
        self.index = {(str(e["patient"]), str(e["view"]), str(e["phase"])): i for i, e in enumerate(examples)}
        self.examples = examples
        wanted = [(view, phase) for view in MEASURED_VIEWS for phase in PHASES]
        everyone = sorted({name for name, *_ in self.index})
        self.names = [p for p in everyone if all((p, *frame) in self.index for frame in wanted)][:num_patients]

    def frames(self, patient: str, view: str) -> list[int]:
        """End-diastole and end-systole of a view, as indices of the source."""
        return [self.index[patient, view, phase] for phase in PHASES]

    def spacing(self, patient: str, view: str) -> tuple[float, float]:
        """``(dy, dx)`` in mm."""
        dy, dx = np.asarray(self.examples[self.frames(patient, view)[0]]["spacing"], float)
        return float(dy), float(dx)


def of_labels(patients: Patients, patient: str, labels: np.ndarray) -> StudyMeasurements:
    """Measures a patient on label maps in the order of the source."""
    views = []
    for view in MEASURED_VIEWS:
        pair, spacing = labels[patients.frames(patient, view)], patients.spacing(patient, view)
        motion = measure_motion(pair, (0, 1), spacing=spacing, frame_time=None)
        strains = Strains(np.array([motion.mid_wall_peak]), np.array([motion.endocardial_peak]))
        views.append(View.of_labels(view, pair[None], spacing)._replace(strains=strains, strains_drawn=strains))
    return measure_study(*views)


def of_pipeline(patients: Patients, patient: str, analyze: Callable) -> StudyMeasurements:
    """Measures a patient from the images, as ``cardiojax analyze`` does."""
    files = {
        Path(f"{patient}_{view}_{phase}.npy"): (i, view)
        for view in MEASURED_VIEWS
        for phase, i in zip(PHASES, patients.frames(patient, view), strict=True)
    }

    shown: list[str] = []

    def read(path: Path) -> Recording:
        index, view = files[path]
        shown.append(view)
        image = np.asarray(patients.examples[index]["image"], np.float32)
        return Recording(image[None] / max(image.max(), 1.0), patients.spacing(patient, view), None, "CAMUS")

    views = {path: view for path, (_, view) in files.items()}

    def classify(recording: Recording) -> ViewEstimate:
        return ViewEstimate(shown[-1], np.eye(len(VIEWS))[VIEWS.index(shown[-1])], None)

    study = analyze_study(list(files), analyze=analyze, classify=classify, views=views, read=read)
    return study.measurements


def compare(measured: list[StudyMeasurements], true: list[StudyMeasurements]) -> str:
    """Agreement of each number over patients, as Markdown."""
    lines = [
        "| number | unit | patients | withheld | r | mean difference | SD | 95 % limits of agreement |",
        "|---" * 8 + "|",
    ]
    for key, definition in DEFINITIONS.items():
        pairs = np.array([[m.by_key(key).value for m in both] for both in zip(measured, true, strict=True)])
        known = pairs[np.isfinite(pairs).all(1)]
        if len(known) < 2:
            continue
        result = clinical.agreement(jnp.asarray(known[:, 0]), jnp.asarray(known[:, 1]))
        deviation = float(result.upper_limit - result.lower_limit) / (2 * 1.96)
        withheld = int((np.isnan(pairs[:, 0]) & np.isfinite(pairs[:, 1])).sum())
        lines.append(
            f"| `{key}` | {definition.unit} | {len(known)} | {withheld} | {float(result.correlation):.3f} | "
            f"{float(result.bias):+.3g} | {deviation:.3g} | {float(result.lower_limit):.3g} to "
            f"{float(result.upper_limit):.3g} |"
        )
    return "\n".join(lines) + "\n"


def main(config: Config) -> str:
    """Runs both comparisons."""
    patients = Patients(config.data / "camus224_val.npz", config.num_patients)
    truth = np.stack([np.asarray(e["label"], np.int32) for e in patients.examples])
    predicted = segment_examples(EvaluateConfig(data=config.data / "camus224_val.npz"), patients.examples)
    evaluated = ejections(predicted, patients.source)
    rows: Mapping[str, int] = {name: i for i, name in enumerate(evaluated.patients)}
    outlines = [of_labels(patients, name, predicted) for name in patients.names]
    true = [of_labels(patients, name, truth) for name in patients.names]
    lines = [
        "| patient | study | `evaluate` | study, true masks | `evaluate`, true masks | textbook |",
        "|---" * 6 + "|",
    ]
    differences = []
    for name, study, reference in zip(patients.names, outlines, true, strict=True):
        pair = [float(e.fraction[rows[name]]) for e in (evaluated.measured, evaluated.reference)]
        values = [m.by_key("ejection_fraction_camus").value for m in (study, reference)]
        differences += [abs(a - b) for a, b in zip(values, pair, strict=True) if math.isfinite(b)]
        textbook = study.by_key("ejection_fraction_biplane").value
        lines.append(f"| {name} | {values[0]:.2f} | {pair[0]:.2f} | {values[1]:.2f} | {pair[1]:.2f} | {textbook:.2f} |")
    analyzer = Analyzer(AnalyzeConfig())
    measured = [of_pipeline(patients, name, analyzer) for name in patients.names]
    equal = f"Largest difference between study and `evaluate`: {max(differences):.2g} points.\n"
    return "\n".join([*lines, "", equal, compare(measured, true)])


if __name__ == "__main__":
    import tyro

    print(main(tyro.cli(Config)), end="")
