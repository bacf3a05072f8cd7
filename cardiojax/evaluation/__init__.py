"""Scores of a segmentation model against reference masks."""

from cardiojax.evaluation.scores import METRICS as METRICS
from cardiojax.evaluation.scores import Ejections as Ejections
from cardiojax.evaluation.scores import MeanScore as MeanScore
from cardiojax.evaluation.scores import Scores as Scores
from cardiojax.evaluation.scores import ejections as ejections
from cardiojax.evaluation.scores import score as score
from cardiojax.evaluation.scores import summary as summary
from cardiojax.evaluation.segmentation import EvaluateConfig as EvaluateConfig
from cardiojax.evaluation.segmentation import evaluate as evaluate
from cardiojax.evaluation.segmentation import predict as predict
from cardiojax.evaluation.tables import format_clinical as format_clinical
from cardiojax.evaluation.tables import format_table as format_table
