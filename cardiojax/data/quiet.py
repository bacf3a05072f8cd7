"""TFDS without its chatter."""

import contextlib
import io
import logging


@contextlib.contextmanager
def quiet_tfds():
    """TFDS tells its progress to loggers, bars and standard output of its own."""
    import tensorflow_datasets as tfds

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
