"""From a recording to outlines, measurements and warnings."""

from cardiojax.analysis.crisp import make_crisp_estimator as make_crisp_estimator
from cardiojax.analysis.pairs import make_pair_segment as make_pair_segment
from cardiojax.analysis.recording import Analysis as Analysis
from cardiojax.analysis.recording import AnalyzeConfig as AnalyzeConfig
from cardiojax.analysis.recording import analyze as analyze
from cardiojax.analysis.recording import make_segment as make_segment
from cardiojax.analysis.sector import Sector as Sector
from cardiojax.analysis.sector import find_sector as find_sector
from cardiojax.analysis.view import ViewEstimate as ViewEstimate
from cardiojax.analysis.view import make_view_classifier as make_view_classifier
