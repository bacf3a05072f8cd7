"""Progress bars of training and of a bank on a terminal."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console

from cardiojax import train
from cardiojax.cli.progress import bar
from cardiojax.data.bank import BankProgress


class RichReporter(train.Reporter):
    """Shows a bar with the time left; where there is no terminal, only the sentences are printed."""

    def __init__(self):
        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._progress = bar(self._console)

    def __enter__(self) -> "RichReporter":
        self._progress.start()
        self._console.show_cursor(True)  # a second Ctrl-C leaves the terminal as it is
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, step: int, num_steps: int) -> None:
        """Makes the bar."""
        self._task = self._progress.add_task("training", total=num_steps, completed=step)

    def update(self, step: int, loss: float) -> None:
        """Moves the bar and shows the loss."""
        self._progress.update(self._task, completed=step, description=f"loss {loss:.4f}")

    def say(self, message: str) -> None:
        """Prints a sentence above the bar."""
        self._console.print(message, markup=False)


@contextlib.contextmanager
def bank_progress(num_codes: int) -> Iterator[Callable[[BankProgress], None]]:
    """Shows a bar for the codes of a bank, with the share that is valid and the time left."""
    with bar(Console(stderr=True)) as progress:
        task = progress.add_task("codes", total=num_codes)

        def update(counts: BankProgress) -> None:
            share = counts.num_valid / max(counts.num_drawn, 1)
            progress.update(task, completed=counts.num_codes, description=f"{100 * share:.0f} % valid")

        yield update
