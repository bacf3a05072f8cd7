"""Decoders without their messages: what matters of them is said in one sentence by this package."""

import contextlib
import logging
import threading
import warnings

#: Loggers of the decoders; those below them inherit the level.
_LOGGERS = ("pydicom", "libav", "nibabel", "PIL")
#: Modules to which the decoders attribute their warnings; that of text which is parsed as Python, as the header of an
#: NPY file, is "<unknown>".
_MODULES = r"(pydicom|nibabel|PIL|av|numpy|openpyxl|cardiojax\.data|<unknown>)(\.|$)"
_SILENT = logging.CRITICAL + 1


class _Silence:
    """What the first of several readers changes and the last one restores."""

    def __init__(self):
        self._lock = threading.Lock()
        self._num_readers = 0
        self._levels: dict[str, int] = {}
        self._filter: tuple | None = None

    def enter(self) -> None:
        with self._lock:
            self._num_readers += 1
            if self._num_readers > 1:
                return
            self._levels = {name: logging.getLogger(name).level for name in _LOGGERS}
            for name in _LOGGERS:
                logging.getLogger(name).setLevel(_SILENT)
            warnings.filterwarnings("ignore", module=_MODULES)
            self._filter = warnings.filters[0]

    def leave(self) -> None:
        with self._lock:
            self._num_readers -= 1
            if self._num_readers > 0:
                return
            for name, level in self._levels.items():
                logging.getLogger(name).setLevel(level)
            with contextlib.suppress(ValueError):  # another thread may have replaced the filters
                warnings.filters.remove(self._filter)  # type: ignore[attr-defined]


_silence = _Silence()


@contextlib.contextmanager
def quiet_decoders():
    """Silences the loggers and warnings of the decoders, and of nothing else, while any thread reads a file.

    The first reader changes the state and the last one restores it, so that readers in threads may overlap.
    """
    _silence.enter()
    try:
        yield
    finally:
        _silence.leave()
