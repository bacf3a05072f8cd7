"""The scores of validation frames, against which the report ranks the quality of a frame.

Run: ``python -m experiments.uncertainty.frame_quality --data DIR/camus_224 --weights RUN/weights.safetensors`` (a
minute); it prints ``score_quantiles`` of the card of ``crisp_camus``.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np

from cardiojax.analysis.crisp import CrispEstimator, load_matcher
from cardiojax.analysis.recording import AnalyzeConfig, make_segment
from cardiojax.data.arrays import camus_224


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is scored.

    Attributes:
        data: Folder with ``camus224_val.npz``.
        crisp: Name of a CRISP model in the zoo.
        weights: A weight file for it, its bank beside it; the packaged ones if not given.
        size: Height and width of the maps.
        num_quantiles: From the smallest to the largest score.
        limit: Frames, 0 for all.
    """

    data: Path
    crisp: str = "crisp_camus"
    weights: Path | None = None
    size: int = 112
    num_quantiles: int = 21
    limit: int = 0


def main(config: Config) -> list[float]:
    """Scores the frames.

    Args:
        config: What is scored.

    Returns:
        The quantiles.
    """
    source = camus_224(config.data / "camus224_val.npz")
    images = np.stack([source[i]["image"] for i in range(config.limit or len(source))])[..., None]
    images = images.astype(np.float32) / 255
    probs = make_segment(AnalyzeConfig())(images)
    estimator = CrispEstimator(load_matcher(config.crisp, size=config.size, weights=config.weights), [0.0, 1.0])
    scores = estimator.score(images, probs)[1]
    return [round(float(q), 4) for q in np.quantile(scores, np.linspace(0, 1, config.num_quantiles))]


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(Config))))
