"""The numbers a cardiologist reads."""

from cardiojax.clinical.axis import LongAxis as LongAxis
from cardiojax.clinical.axis import long_axis as long_axis
from cardiojax.clinical.axis import lv_area as lv_area
from cardiojax.clinical.axis import lv_length as lv_length
from cardiojax.clinical.phases import Phases as Phases
from cardiojax.clinical.phases import detect_phases as detect_phases
from cardiojax.clinical.phases import smooth_curve as smooth_curve
from cardiojax.clinical.volumes import Disks as Disks
from cardiojax.clinical.volumes import biplane_volume as biplane_volume
from cardiojax.clinical.volumes import camus_length as camus_length
from cardiojax.clinical.volumes import disks as disks
from cardiojax.clinical.volumes import ejection_fraction as ejection_fraction
from cardiojax.clinical.volumes import single_plane_volume as single_plane_volume
