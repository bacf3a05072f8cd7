"""Volumes, ejection fraction, strain and temporal consistency of the label maps of a loop."""

from cardiojax.measurement.chambers import Chambers as Chambers
from cardiojax.measurement.chambers import measure_chambers as measure_chambers
from cardiojax.measurement.motion import Motion as Motion
from cardiojax.measurement.motion import measure_motion as measure_motion
from cardiojax.measurement.timing import Timing as Timing
from cardiojax.measurement.timing import measure_timing as measure_timing
from cardiojax.measurement.volumes import BeatMeasurements as BeatMeasurements
from cardiojax.measurement.volumes import Measurements as Measurements
from cardiojax.measurement.volumes import measure as measure
