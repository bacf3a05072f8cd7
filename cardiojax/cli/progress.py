"""A bar on a terminal."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextlib.contextmanager
def frame_progress(num_frames: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar for the frames of a recording while it is analysed; nothing where there is no terminal."""
    with bar(Console(stderr=True)) as progress:
        task = progress.add_task("frames", total=num_frames)
        yield lambda done: progress.update(task, completed=done)


def bar(console: Console) -> Progress:
    """A bar with the time left; hidden where there is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
