"""Decoders without their messages: what matters of them is said in one sentence by this package."""

import contextlib
import logging
import threading
import warnings

#: Loggers of the decoders; those below them inherit the level.
_LOGGERS = ("pydicom", "libav", "nibabel", "PIL")
#: Modules to which the decoders attribute their warnings.
_MODULES = r"(pydicom|nibabel|PIL|av|numpy|cardiojax\.data)(\.|$)"
_SILENT = logging.CRITICAL + 1

_lock = threading.Lock()
_num_readers = 0
_levels: dict[str, int] = {}
_filters: list = []


@contextlib.contextmanager
def quiet_decoders():
    """Silences the loggers and warnings of the decoders, and of nothing else, while any thread reads a file.

    The first reader changes the state and the last one restores it, so that readers in threads may overlap.
    """
    global _num_readers
    with _lock:
        _num_readers += 1
        if _num_readers == 1:
            _levels.update({name: logging.getLogger(name).level for name in _LOGGERS})
            for name in _LOGGERS:
                logging.getLogger(name).setLevel(_SILENT)
            warnings.filterwarnings("ignore", module=_MODULES)
            _filters[:] = warnings.filters[:1]
    try:
        yield
    finally:
        with _lock:
            _num_readers -= 1
            if _num_readers == 0:
                for name, level in _levels.items():
                    logging.getLogger(name).setLevel(level)
                with contextlib.suppress(ValueError):  # another thread may have replaced the filters
                    warnings.filters.remove(_filters[0])  # type: ignore[attr-defined]
