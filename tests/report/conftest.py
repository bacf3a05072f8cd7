"""The drawn recording and its analysis, and a study of two drawn views."""

from pathlib import Path

import numpy as np
import pytest

from cardiojax import study as studies
from cardiojax.analysis import recording as analysis
from cardiojax.analysis.view import VIEWS as VIEWS_OF_CLASSIFIER
from cardiojax.analysis.view import ViewEstimate
from cardiojax.correction import anatomical
from tests.helpers.loops import analyzed as analyzed
from tests.helpers.loops import beating as beating
from tests.helpers.loops import corrected_beat as corrected_beat
from tests.helpers.loops import draw as draw
from tests.helpers.loops import recording as recording

#: What each file shows.
VIEWS = {"a.dcm": "2CH", "b.dcm": "4CH", "c.dcm": "4CH", "d.dcm": "other", "e.dcm": "2CH"}


@pytest.fixture(scope="session")
def study_of(beating):
    """Makes a study of drawn recordings by the names of their files."""

    def make(recording, names, **options):
        def smaller(labels, *, box):
            """The last outline loses a row of its cavity."""
            after = labels.copy()
            rows = np.flatnonzero((labels[-1] == 1).any(1))
            after[-1, rows[0]] = np.where(labels[-1, rows[0]] == 1, 2, labels[-1, rows[0]])
            changed = (after != labels).mean((1, 2))
            valid = np.ones(len(labels), bool)
            return anatomical.AnatomicalCorrection(labels, after, changed == 0, valid, changed, changed)

        opened = []

        def read(path):
            opened.append(path.name)
            length = {"c.dcm": 12, "e.dcm": 1}.get(path.name, 17)  # 16 are a beat
            frames = recording.frames[:length].copy()
            frames[:, 20:170, 40:220] += np.linspace(0, 0.2, 150)[:, None]  # more than a few grey values
            return recording._replace(frames=frames, frame_time=0.06 if path.name == "b.dcm" else 0.05)

        def classify(shown):
            view = VIEWS[opened[-1]]
            return ViewEstimate(view, np.eye(3)[list(VIEWS_OF_CLASSIFIER).index(view)], _reason(view))

        return studies.analyze_study(
            [Path(name) for name in names],
            analyze=lambda shown: analysis.analyze(shown, beating(), anatomical_corrector=smaller),
            classify=classify,
            read=read,
            **options,
        )

    return make


def _reason(view):
    return "It shows no apical view." if view == "other" else None
