"""The command line: a table of commands, each imported only when it is called; tyro reads its arguments."""

import contextlib
import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

#: Name, one line of help, and the function that tyro calls, as ``module:function`` of this package.
COMMANDS: dict[str, tuple[str, str]] = {
    "analyze": ("measure the echo recordings of a patient and write a report", "analyze:analyze_command"),
    "batch": ("measure every study of an archive into a table", "batch:batch_command"),
    "train unet": ("train a U-Net on CAMUS arrays, or resume", "train:unet"),
    "train nnunet": ("train an nnU-Net on CAMUS arrays, or resume", "train:nnunet"),
    "train vae": ("train a shape autoencoder on CAMUS masks, or resume", "train:vae"),
    "train crisp": ("train images and shapes in one latent space, or resume", "train:crisp"),
    "train view": ("train a classifier of apical views, or resume", "train:view"),
    "densify": ("fill a bank with codes of anatomically valid shapes, or resume", "densify:densify"),
    "data list": ("list the known datasets, or those that were built", "data:list_command"),
    "data check": ("list every defect of a download", "data:check_command"),
    "data build phantom": ("simulate annotated loops for training, once", "data:build_phantom_command"),
    "data build": ("prepare a dataset for training, once", "data:build_command"),
    "check": ("check masks against the anatomical criteria", "check:check_command"),
    "evaluate": ("score a model as the CAMUS paper does", "evaluate:evaluate_command"),
    "zoo list": ("list the models", "zoo:list_command"),
    "zoo show": ("print the card of a model", "zoo:show"),
    "zoo fetch": ("download the original weights of a model and convert them", "zoo:fetch"),
    "zoo convert": ("convert another project's checkpoint to a weight file", "zoo:convert"),
    "zoo export": ("write a model as a StableHLO program", "zoo:export"),
}


def run() -> None:
    """Runs ``cardiojax`` as a process: its threads do not delay the exit after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks
    name = _find(sys.argv[1:])
    if name is not None:
        _load_uninterrupted(name)
    try:
        status = main()
    except KeyboardInterrupt:
        status = 130
    if status == 130:
        os._exit(status)  # XLA may be compiling in a thread, which nothing can interrupt
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``cardiojax``.

    Args:
        arguments: Command line without the program's name; that of the process if not given.

    Returns:
        0 if all went well, 1 if the reader of the output has closed it, 2 with one sentence on stderr for a mistake in
        the input, 130 if interrupted. A training that was stopped with a checkpoint exits with 130 or, after SIGTERM,
        143.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = _find(words)
    try:
        if name is None:
            asked = not words or words[0] in ("-h", "--help")
            print(_usage(), file=sys.stdout if asked else sys.stderr)
            status = 0 if asked else 2
        else:
            _call(name, words[len(name.split()) :])
            status = 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _discard_output()
        return 1
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        print(f"cardiojax: {sentence}", file=sys.stderr)
        return 2
    return status


def _find(words: Sequence[str]) -> str | None:
    return next((n for n in COMMANDS if list(words[: len(n.split())]) == n.split()), None)


def _load(name: str) -> Callable[..., object]:
    # Before JAX starts: with a compilation cache, XLA reports its own tuning flags as missing features of the processor
    # at each load (https://github.com/jax-ml/jax/issues/38445), in errors of two kilobytes.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import jax

    # The commands compute in 32 bits whatever JAX_ENABLE_X64 says: their functions are compiled for such arrays.
    jax.config.update("jax_enable_x64", False)
    module, function = COMMANDS[name][1].split(":")
    return getattr(importlib.import_module(f"cardiojax.cli.{module}"), function)


def _load_uninterrupted(name: str) -> None:
    """Imports a command's modules; Ctrl-C ends the process meanwhile, since interrupted imports fail in many ways."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with contextlib.suppress(Exception):  # `main` meets it again
        _load(name)
    signal.signal(signal.SIGINT, handler)


def _call(name: str, arguments: Sequence[str]) -> None:
    import tyro

    from cardiojax.runtime import aot

    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # orbax abandons reads of a damaged checkpoint
    command = _load(name)
    aot.check_cache_folder()
    aot.use_user_cache()
    tyro.cli(command, args=arguments, prog=f"cardiojax {name}", description=COMMANDS[name][0])


def _discard_output() -> None:
    """Sends what is still to be written nowhere, so that the end of the process does not fail on it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  cardiojax {name:<{width}}  {text}" for name, (text, _) in COMMANDS.items())
    return f"usage: cardiojax COMMAND [OPTIONS]\n\n{rows}\n\ncardiojax COMMAND --help lists the options of a command."


def _sentence(error: Exception) -> str | None:
    """What a person can cause and mend, in one line; None for a bug, which keeps its traceback."""
    from cardiojax.archive import BatchError, JournalError
    from cardiojax.data import UnreadableFileError, printable
    from cardiojax.data.bank import BankError
    from cardiojax.report import OutputFolderError
    from cardiojax.study import StudyError
    from cardiojax.train import DamagedCheckpointError, DivergedError
    from cardiojax.zoo import WeightsError

    named = (
        UnreadableFileError,
        BatchError,
        JournalError,
        BankError,
        OutputFolderError,
        StudyError,
        WeightsError,
        DamagedCheckpointError,
        DivergedError,
        ValueError,
        KeyError,
        OSError,
        OverflowError,
    )
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        message = f"{os.fsdecode(error.filename)}: {error.strerror}"
    text = printable(" ".join(str(message).split())) or type(error).__name__
    if isinstance(error, named):
        return text
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return f"not enough memory ({text[:200]})"
    if isinstance(error, RecursionError):
        return f"an input is nested too deeply ({text[:200]})"
    if isinstance(error, RuntimeError) and text.startswith("Symlink loop"):  # of pathlib, before Python 3.13
        return text
    return _missing_device() if isinstance(error, RuntimeError | AssertionError) else None


def _missing_device() -> str | None:
    """What keeps JAX from starting, if anything does; releases differ in what they raise."""
    import jax

    try:
        jax.devices()
    except Exception as error:
        asked, text = (" ".join(str(words).split()) for words in (os.environ.get("JAX_PLATFORMS", ""), error))
        return f"JAX cannot start with JAX_PLATFORMS={asked!r} ({text[:200] or 'no such device'})"
    return None
