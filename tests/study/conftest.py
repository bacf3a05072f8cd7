"""A drawn recording and models whose answer is known, as in the tests of the analysis."""

from tests.analysis.conftest import beating as beating
from tests.analysis.conftest import draw as draw
from tests.analysis.conftest import recording as recording
