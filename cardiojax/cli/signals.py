"""SIGTERM and Ctrl-C for commands whose work can be resumed.

A command that stopped so that the same command resumes it exits with 143 (SIGTERM, as of a batch system that needs the
machine) or 130 (Ctrl-C).
"""

import signal
import sys
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """Whether the process was asked to stop; ``should_stop`` of a training run.

    The first signal is a request, which the run answers by a checkpoint after its present step; the second ends the
    process at once, as does the first before the run has begun to ask.

    ::

        with StopRequest() as request:
            result = train_unet(config, should_stop=request)
    """

    def __init__(self):
        self._is_polled = False
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether a signal has come."""
        self._is_polled = True
        return self._received is not None

    @property
    def exit_code(self) -> int:
        """The shell's code for the signal that came."""
        return 128 + (self._received or signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._is_polled or self._received is not None:
            stop_at_once(number, frame)
        self._received = number
        print("cardiojax: writing a checkpoint and stopping; once more stops at once", file=sys.stderr)


def stop_at_once(number: int, frame: FrameType | None) -> None:
    """Signal handler that unwinds the stack, so that locks are released and temporary files removed."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
