"""The CAMUS dataset: built once, read through Grain."""

from cardiojax.data.camus.build import build_camus as build_camus
from cardiojax.data.camus.build import open_camus as open_camus
from cardiojax.data.camus.frames import open_frames as open_frames
