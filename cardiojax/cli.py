"""The command line: a table of commands, each imported only when it is called; tyro reads its arguments."""

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated


def _analyze() -> Callable[..., None]:
    import tyro

    from cardiojax.pipeline.analyze import AnalyzeConfig

    def run(
        file: Annotated[Path | None, tyro.conf.Positional] = None,
        /,
        *,
        out: Path,
        example: bool = False,
        cache_dir: Path | None = None,
        correct: bool = True,
        raw: bool = False,
        judge: bool = False,
        config: Annotated[AnalyzeConfig, tyro.conf.arg(name="")] = AnalyzeConfig(),
    ) -> None:
        """Measures an echo recording.

        Args:
            file: The recording.
            out: Folder for the report.
            example: Take the real apical four-chamber loop that ships with pydicom instead of a file.
            cache_dir: Folder that keeps compiled programs, so that the next call starts faster.
            correct: Replace outlines that could not be those of a heart by the nearest that could.
            raw: Leave the frames of a loop that move unlike a heart as they were drawn.
            judge: Say which frames not to trust, by the shapes of other hearts that go with such images.
            config: How the recording is analysed.
        """
        from cardiojax.pipeline.command import analyze_file

        print(
            analyze_file(
                file,
                out=out,
                example=example,
                cache_dir=cache_dir,
                correct=correct,
                raw=raw,
                judge=judge,
                config=config,
            )
        )

    return run


def _train_unet() -> Callable[..., None]:
    import tyro

    from cardiojax.pipeline.console import RichReporter
    from cardiojax.pipeline.training import TrainUNetConfig, train_unet

    def run(config: Annotated[TrainUNetConfig, tyro.conf.arg(name="")]) -> None:
        with RichReporter() as reporter:
            result = train_unet(config, reporter=reporter)
        print(f"best score {result.best_score:.4f} at step {result.best_step}: {config.out / 'weights.safetensors'}")

    return run


def _train_nnunet() -> Callable[..., None]:
    import tyro

    from cardiojax.pipeline.console import RichReporter
    from cardiojax.pipeline.training_nnunet import TrainNNUNetConfig, train_nnunet

    def run(config: Annotated[TrainNNUNetConfig, tyro.conf.arg(name="")]) -> None:
        with RichReporter() as reporter:
            result = train_nnunet(config, reporter=reporter)
        print(f"best score {result.best_score:.4f} at step {result.best_step}: {config.out / 'weights.safetensors'}")

    return run


def _train_vae() -> Callable[..., None]:
    import tyro

    from cardiojax.pipeline.console import RichReporter
    from cardiojax.pipeline.training_vae import TrainVAEConfig, train_vae

    def run(config: Annotated[TrainVAEConfig, tyro.conf.arg(name="")]) -> None:
        with RichReporter() as reporter:
            result = train_vae(config, reporter=reporter)
        print(f"best score {result.best_score:.4f} at step {result.best_step}: {config.out / 'weights.safetensors'}")

    return run


def _densify() -> Callable[..., None]:
    import tyro

    from cardiojax.pipeline.bank import BuildBankConfig, build_bank
    from cardiojax.pipeline.console import bank_progress
    from cardiojax.pipeline.devices import use_every_core

    def run(config: Annotated[BuildBankConfig, tyro.conf.arg(name="")]) -> None:
        use_every_core()
        with bank_progress(config.draws.num_codes) as progress:
            bank = build_bank(config, progress=progress)
        counts = bank.progress
        share = counts.num_valid / max(counts.num_drawn, 1)
        print(f"{counts.num_codes} codes, {100 * share:.1f} % of {counts.num_drawn} drawn: {config.out}")

    return run


def _train_crisp() -> Callable[..., None]:
    import tyro

    from cardiojax.pipeline.console import RichReporter
    from cardiojax.pipeline.training_crisp import TrainCRISPConfig, train_crisp

    def run(config: Annotated[TrainCRISPConfig, tyro.conf.arg(name="")]) -> None:
        with RichReporter() as reporter:
            result = train_crisp(config, reporter=reporter)
        print(f"best score {result.best_score:.4f} at step {result.best_step}: {config.out / 'weights.safetensors'}")

    return run


def _evaluate() -> Callable[..., None]:
    import tyro

    from cardiojax.pipeline.evaluate import EvaluateConfig, evaluate

    def run(config: Annotated[EvaluateConfig, tyro.conf.arg(name="")]) -> None:
        print(evaluate(config), end="")

    return run


def _check() -> Callable[..., None]:
    import tyro

    from cardiojax.pipeline.checking import CheckConfig

    def run(
        masks: tyro.conf.Positional[tuple[Path, ...]],
        /,
        *,
        config: Annotated[CheckConfig, tyro.conf.arg(name="")] = CheckConfig(),
    ) -> None:
        """Tells which masks could be a heart, and which criteria the others fail.

        Args:
            masks: Label maps: NIfTI, MetaImage, PNG, NPY or NPZ.
            config: Against what they are checked.
        """
        from cardiojax.pipeline.checking import check_files

        print(check_files(masks, config=config))

    return run


def _build_camus() -> Callable[..., None]:
    def run(*, manual_dir: Path, data_dir: Path, config: str = "nifti") -> None:
        """Writes CAMUS as array_record files for training.

        Args:
            manual_dir: The unpacked release.
            data_dir: Where datasets are kept.
            config: nifti, mhd or nifti_sequence.
        """
        from cardiojax.data.camus import build_camus

        counts = build_camus(manual_dir, data_dir, config=config)
        print(f"camus/{config} in {data_dir}: " + ", ".join(f"{n} in {split}" for split, n in counts.items()))

    return run


def _build_phantom() -> Callable[..., None]:
    import tyro

    from cardiojax.data.phantom import PhantomSet, build_phantom

    def run(*, data_dir: Path, config: Annotated[PhantomSet, tyro.conf.arg(name="")] = PhantomSet()) -> None:
        """Simulates annotated loops and writes them as array_record files.

        Args:
            data_dir: Where datasets are kept.
            config: What is simulated.
        """
        counts = build_phantom(data_dir, config)
        print(f"phantom/{config.name} in {data_dir}: " + ", ".join(f"{n} in {split}" for split, n in counts.items()))

    return run


def _zoo_list() -> Callable[..., None]:
    def run(pattern: str = "*") -> None:
        """Lists the models of the zoo.

        Args:
            pattern: A shell-style pattern.
        """
        from cardiojax import zoo

        for name in zoo.list_models(pattern):
            print(name)

    return run


def _zoo_show() -> Callable[..., None]:
    def run(name: str, /) -> None:
        """Prints the card of a model.

        Args:
            name: Its name, or a weight file that says which model it is for.
        """
        import json

        from cardiojax import zoo

        print(json.dumps(zoo.card(name), indent=2))

    return run


def _zoo_convert() -> Callable[..., None]:
    def run(name: str, file: Path, /, *, out: Path, dtype: str = "float32", override: tuple[str, ...] = ()) -> None:
        """Turns a checkpoint of a model's original project into a weight file of ours.

        Args:
            name: The model.
            file: The .pth or .safetensors file; nothing in it is executed.
            out: Target file, .safetensors.
            dtype: Type of the numbers in it.
            override: Changed fields of the model's configuration, as num_classes=2 image_size=512.
        """
        from cardiojax import zoo

        fields = zoo.parse_overrides(override)
        params = zoo.load_original(name, file, **fields)["params"]
        zoo.save(out, name, params, file_dtype=dtype, card={"converted_from": file.name}, **fields)
        print(f"{name}: {out}")

    return run


def _zoo_export() -> Callable[..., None]:
    def run(
        name: str,
        /,
        *,
        out: Path,
        weights: Path | None = None,
        size: int = 224,
        network_only: bool = False,
        platforms: tuple[str, ...] = ("cpu", "cuda", "tpu"),
    ) -> None:
        """Writes a model as a StableHLO program, or its network as ONNX if the file is named so.

        Args:
            name: The model, or a weight file that says which model it is for.
            out: Target file.
            weights: A weight file for it; the packaged one if not given.
            size: Side of the square grid on which it segments.
            network_only: Images to logits, instead of stored frames and the box of their sector to labels.
            platforms: Where it shall run.
        """
        from cardiojax import zoo

        facts = zoo.export_model(name, out, weights=weights, size=size, network_only=network_only, platforms=platforms)
        print(f"{facts['name']} for {', '.join(facts.get('platforms', ['ONNX']))}: {out}")

    return run


#: Name, one line of help, and what makes the function that tyro calls.
COMMANDS: dict[str, tuple[str, Callable[[], Callable[..., None]]]] = {
    "analyze": ("measure an echo recording and write a report", _analyze),
    "train unet": ("train a U-Net on CAMUS arrays, or resume", _train_unet),
    "train nnunet": ("train an nnU-Net on CAMUS arrays, or resume", _train_nnunet),
    "train vae": ("train a shape autoencoder on CAMUS masks, or resume", _train_vae),
    "train crisp": ("train images and shapes in one latent space, or resume", _train_crisp),
    "densify": ("fill a bank with codes of plausible hearts, or resume", _densify),
    "data build camus": ("prepare CAMUS for training, once", _build_camus),
    "data build phantom": ("simulate annotated loops for training, once", _build_phantom),
    "check": ("tell which masks could be a heart", _check),
    "evaluate": ("score a model as the CAMUS paper does", _evaluate),
    "zoo list": ("the models there are", _zoo_list),
    "zoo show": ("the card of a model", _zoo_show),
    "zoo convert": ("turn another project's checkpoint into a weight file", _zoo_convert),
    "zoo export": ("write a model as a StableHLO program", _zoo_export),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``cardiojax``.

    Args:
        arguments: Command line without the program's name; that of the process if not given.

    Returns:
        0 if all went well, 2 with one sentence on stderr for a mistake in the input, 130 if interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = next((n for n in COMMANDS if words[: len(n.split())] == n.split()), None)
    if name is None:
        asked = not words or words[0] in ("-h", "--help")
        print(_usage(), file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    import tyro

    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # orbax abandons reads of a damaged checkpoint
    command = COMMANDS[name][1]()
    try:
        tyro.cli(command, args=words[len(name.split()) :], prog=f"cardiojax {name}", description=COMMANDS[name][0])
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
    return f"usage: cardiojax COMMAND [OPTIONS]\n\n{rows}\n\ncardiojax COMMAND --help tells a command's options."


def _mistakes() -> tuple[type[Exception], ...]:
    """What a person can cause and mend: said in a sentence. Anything else is a bug and keeps its traceback."""
    from cardiojax.data import UnreadableFileError
    from cardiojax.data.bank import BankError
    from cardiojax.pipeline.report import OutputFolderError
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


if __name__ == "__main__":
    sys.exit(main())
