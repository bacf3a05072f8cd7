"""Scores of a segmentation model against reference masks."""

from cardiojax.evaluation.segmentation import EvaluateConfig as EvaluateConfig
from cardiojax.evaluation.segmentation import evaluate as evaluate
from cardiojax.evaluation.segmentation import score as score
