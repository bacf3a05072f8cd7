"""Anatomical and temporal correction of label maps."""

from cardiojax.correction.anatomical import AnatomicalCorrection as AnatomicalCorrection
from cardiojax.correction.anatomical import AnatomicalCorrector as AnatomicalCorrector
from cardiojax.correction.anatomical import make_anatomical_corrector as make_anatomical_corrector
from cardiojax.correction.iteration import TemporalConfig as TemporalConfig
from cardiojax.correction.temporal import TemporalCorrection as TemporalCorrection
from cardiojax.correction.temporal import TemporalCorrector as TemporalCorrector
from cardiojax.correction.temporal import make_temporal_corrector as make_temporal_corrector
