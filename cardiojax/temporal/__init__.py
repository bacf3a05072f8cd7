"""Temporal consistency of sequences: its indicator, and the smoothing that enforces it."""

from cardiojax.temporal.consistency import PAINCHAUD as PAINCHAUD
from cardiojax.temporal.consistency import Consistency as Consistency
from cardiojax.temporal.consistency import ConsistencySummary as ConsistencySummary
from cardiojax.temporal.consistency import Limits as Limits
from cardiojax.temporal.consistency import calibrate_limits as calibrate_limits
from cardiojax.temporal.consistency import consistency as consistency
from cardiojax.temporal.consistency import painchaud_limits as painchaud_limits
from cardiojax.temporal.consistency import scale_to_frame_time as scale_to_frame_time
from cardiojax.temporal.consistency import second_difference as second_difference
from cardiojax.temporal.consistency import summarize as summarize
from cardiojax.temporal.nearest import nearest_consistent as nearest_consistent
from cardiojax.temporal.regularize import Regularized as Regularized
from cardiojax.temporal.regularize import regularize as regularize
from cardiojax.temporal.sequence import ConsistentSequence as ConsistentSequence
from cardiojax.temporal.sequence import consistent_sequence as consistent_sequence
from cardiojax.temporal.smoothing import gaussian_filter as gaussian_filter
from cardiojax.temporal.smoothing import smooth as smooth
