"""The view of a recording: apical two-chamber, apical four-chamber, or another one that is not measured."""

from typing import NamedTuple

import numpy as np

#: Apical two-chamber, apical four-chamber, anything else.
VIEWS = ("2CH", "4CH", "other")


class ViewEstimate(NamedTuple):
    """Which view a recording shows.

    Attributes:
        view: One of `VIEWS`.
        probs: Probability of each of `VIEWS`, ``[3]``.
        reason: For ``"other"``, one sentence that says why nothing is measured; else None.
    """

    view: str
    probs: np.ndarray
    reason: str | None = None
