"""The analysis of recordings with its networks loaded once."""

import functools
from collections.abc import Callable

from cardiojax.analysis.crisp import make_crisp_estimator
from cardiojax.analysis.pairs import choose_pair_model, make_pair_segment
from cardiojax.analysis.recording import Analysis, AnalyzeConfig, analyze, make_segment
from cardiojax.correction.anatomical import make_anatomical_corrector
from cardiojax.correction.temporal import make_temporal_corrector
from cardiojax.data import Recording

#: Frames below which a loop is not corrected over time.
_MIN_LOOP = 3


class Analyzer:
    """Analyses recordings one after another; each network is loaded when a recording first needs it.

    Args:
        config: How they are analysed.
        anatomical_correction: Whether anatomically invalid outlines are replaced by the nearest valid ones.
        temporal_correction: Whether temporally inconsistent frames of a loop are corrected.
        crisp: Whether uncertainty is estimated by CRISP instead of the entropy.

    Example:
        >>> analyzer = Analyzer(AnalyzeConfig(model="unet_camus"))
        >>> analyzer.is_validated
        True
    """

    def __init__(
        self,
        config: AnalyzeConfig,
        *,
        anatomical_correction: bool = True,
        temporal_correction: bool = True,
        crisp: bool = False,
    ):
        self._config, self._temporal_correction = config, temporal_correction
        self._anatomical_correction, self._crisp = anatomical_correction, crisp

    @property
    def is_validated(self) -> bool:
        """Whether `cardiojax.study.precision` was measured with these networks and options."""
        config, default = self._config, AnalyzeConfig()
        same = all(getattr(config, name) == getattr(default, name) for name in ("model", "ensemble", "pair_model"))
        return same and self._anatomical_correction

    def prepare(self) -> None:
        """Loads the network that every recording needs, and one that was asked for, and begins to compile them."""
        _ = self._segment
        if self._config.pair_model not in ("auto", "none"):
            _ = self._pair_segment  # a wrong name is found before the work, also where all recordings are stills

    def __call__(self, recording: Recording, *, on_progress: Callable[[int], None] = lambda done: None) -> Analysis:
        """Analyses a recording of an apical view.

        Args:
            recording: The recording.
            on_progress: Called with the number of frames segmented so far.

        Returns:
            The analysis.
        """
        num_frames = len(recording.frames)
        return analyze(
            recording,
            self._segment,
            config=self._config,
            anatomical_corrector=self._anatomical_corrector,
            pair_segment=self._pair_segment if num_frames > 1 else None,
            uncertainty_estimator=self._uncertainty_estimator,
            temporal_corrector=self._temporal_corrector if num_frames >= _MIN_LOOP else None,
            on_progress=on_progress,
        )

    @functools.cached_property
    def _segment(self):
        return make_segment(self._config)

    @functools.cached_property
    def _anatomical_corrector(self):
        return make_anatomical_corrector() if self._anatomical_correction else None

    @functools.cached_property
    def _pair_segment(self):
        config = self._config
        pair_model = choose_pair_model(config.model, config.pair_model)
        if pair_model is None:
            return None
        return make_pair_segment(pair_model, size=config.size, test_time_augmentation=config.test_time_augmentation)

    @functools.cached_property
    def _uncertainty_estimator(self):
        return make_crisp_estimator() if self._crisp else None

    @functools.cached_property
    def _temporal_corrector(self):
        if not self._temporal_correction:
            return None
        return make_temporal_corrector(anatomical_corrector=self._anatomical_corrector, size=self._config.size)
