"""The command line: a table of commands, each imported only when it is called; tyro reads its arguments."""

import importlib
import logging
import os
import sys
from collections.abc import Sequence

#: Name, one line of help, and the function that tyro calls, as ``module:function`` of this package.
COMMANDS: dict[str, tuple[str, str]] = {
    "analyze": ("measure an echo recording and write a report", "analyze:analyze_command"),
    "train unet": ("train a U-Net on CAMUS arrays, or resume", "train:unet"),
    "train nnunet": ("train an nnU-Net on CAMUS arrays, or resume", "train:nnunet"),
    "train vae": ("train a shape autoencoder on CAMUS masks, or resume", "train:vae"),
    "train crisp": ("train images and shapes in one latent space, or resume", "train:crisp"),
    "densify": ("fill a bank with codes of anatomically valid shapes, or resume", "densify:densify"),
    "data build camus": ("prepare CAMUS for training, once", "data:build_camus_command"),
    "data build phantom": ("simulate annotated loops for training, once", "data:build_phantom_command"),
    "check": ("check masks against the anatomical criteria", "check:check_command"),
    "evaluate": ("score a model as the CAMUS paper does", "evaluate:evaluate_command"),
    "zoo list": ("list the models", "zoo:list_command"),
    "zoo show": ("print the card of a model", "zoo:show"),
    "zoo convert": ("convert another project's checkpoint to a weight file", "zoo:convert"),
    "zoo export": ("write a model as a StableHLO program", "zoo:export"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``cardiojax``.

    Args:
        arguments: Command line without the program's name; that of the process if not given.

    Returns:
        0 if all went well, 2 with one sentence on stderr for a mistake in the input, 130 if interrupted.
    """
    # Before JAX starts: with a compilation cache, XLA reports its own tuning flags as missing features of the processor
    # at each load (https://github.com/jax-ml/jax/issues/38445), in errors of two kilobytes.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = next((n for n in COMMANDS if words[: len(n.split())] == n.split()), None)
    if name is None:
        asked = not words or words[0] in ("-h", "--help")
        print(_usage(), file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    import tyro

    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # orbax abandons reads of a damaged checkpoint
    description, target = COMMANDS[name]
    module, function = target.split(":")
    try:
        command = getattr(importlib.import_module(f"cardiojax.cli.{module}"), function)
        tyro.cli(command, args=words[len(name.split()) :], prog=f"cardiojax {name}", description=description)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        return 1
    except _mistakes() as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"cardiojax: {message}", file=sys.stderr)
        return 2
    return 0


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  cardiojax {name:<{width}}  {text}" for name, (text, _) in COMMANDS.items())
    return f"usage: cardiojax COMMAND [OPTIONS]\n\n{rows}\n\ncardiojax COMMAND --help lists the options of a command."


def _mistakes() -> tuple[type[Exception], ...]:
    """What a person can cause and mend: said in a sentence. Anything else is a bug and keeps its traceback."""
    from cardiojax.data import UnreadableFileError
    from cardiojax.data.bank import BankError
    from cardiojax.report.output import OutputFolderError
    from cardiojax.train import DamagedCheckpointError, DivergedError
    from cardiojax.zoo import WeightsError

    return (
        UnreadableFileError,
        BankError,
        OutputFolderError,
        WeightsError,
        DamagedCheckpointError,
        DivergedError,
        ValueError,
        KeyError,
        OSError,
    )
