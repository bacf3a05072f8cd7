"""The drawn recording and its analysis."""

from tests.helpers.loops import analyzed as analyzed
from tests.helpers.loops import beating as beating
from tests.helpers.loops import corrected_loop as corrected_loop
from tests.helpers.loops import draw as draw
from tests.helpers.loops import recording as recording
