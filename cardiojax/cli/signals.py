"""SIGTERM and Ctrl-C for a command whose work can be resumed.

The exit status is the shell's for the signal: 143 for SIGTERM, which batch systems send before they take a machine
back, and 130 for Ctrl-C. After either, the same command resumes the work.
"""

import signal
import sys
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether the process was asked to stop; the ``should_stop`` of a training run.

    The first signal is a request, which the run answers by a checkpoint after its present step. The second ends the
    process at once, and so does the first before the run has asked for the first time: then there is nothing to keep,
    and XLA may be compiling, which no Python handler can interrupt.

    Args:
        message: What is said after the first signal.

    ::

        with StopRequest() as request:
            result = train_unet(config, should_stop=request)
    """

    def __init__(self, message: str = "writing a checkpoint and stopping"):
        self._message = message
        self._is_polled = False
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set
            self._previous = {number: signal.signal(number, signal.SIG_DFL) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether a signal has come."""
        if not self._is_polled:
            self._is_polled = True
            for number in self._previous:
                signal.signal(number, self._handle)
        return self._received is not None

    @property
    def exit_status(self) -> int:
        """The shell's status for the signal that came."""
        return 128 + (self._received or signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        for each in self._previous:
            signal.signal(each, signal.SIG_DFL)
        print(f"cardiojax: {self._message}; a second signal stops at once", file=sys.stderr)
