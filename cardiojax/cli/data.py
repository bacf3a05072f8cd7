"""``cardiojax data``: lists, checks and prepares datasets."""

import textwrap
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from cardiojax.cli.progress import bar
from cardiojax.data import printable
from cardiojax.data.datasets import (
    LAYOUTS,
    BuildConfig,
    Layout,
    build_dataset,
    check_download,
    describe_dataset,
    find_recordings,
    folder_layout,
    list_built,
    recognise,
)
from cardiojax.data.phantom import PhantomSet, build_phantom
from cardiojax.labels import Structures


def list_command(name: Annotated[str, tyro.conf.Positional] = "", /, *, data_dir: Path | None = None) -> None:
    """Lists the known datasets.

    Args:
        name: One of them, whose files, terms and citation are printed.
        data_dir: A folder of datasets that were built, which are listed instead.
    """
    if data_dir is not None:
        if not (names := list_built(data_dir)):
            raise ValueError(f"{data_dir}: no dataset was built there")
        for built in (describe_dataset(data_dir, each) for each in names):
            counts = ", ".join(f"{n} in {split}" for split, n in built.num_examples.items())
            print(f"{built.name}: {counts}; {', '.join(built.structures.names[1:])}")
    elif name:
        print(_details(_layout(name, ())))
    else:
        width = max(map(len, LAYOUTS))
        for layout in LAYOUTS.values():
            print(f"{layout.name:<{width}}  {layout.description} ({', '.join(layout.structures.names[1:])})")


def check_command(folder: Annotated[Path, tyro.conf.Positional], /, *, structures: tuple[str, ...] = ()) -> None:
    """Lists every defect of a download; the exit status is 1 if there is one.

    Args:
        folder: The unpacked download of a public dataset, or a folder of images and masks of your own.
        structures: What the labels 1, 2, ... of your own masks mean, such as lv myocardium right_ventricle; for other
            values each with its own, such as lv=255.
    """
    layout, survey = (_layout("folder", structures), None) if structures else recognise(folder)
    count = 0
    with bar(Console(stderr=True)) as progress:
        task = progress.add_task("recordings", total=None)
        for defect in check_download(
            layout,
            folder,
            survey=survey,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        ):
            print(printable(defect))
            count += 1
    print(f"{layout.name} in {printable(folder)}: {count or 'no'} defect{'' if count == 1 else 's'}")
    if count:
        raise SystemExit(1)


def build_command(
    name: Annotated[str, tyro.conf.Positional],
    /,
    *,
    manual_dir: Path,
    data_dir: Path,
    structures: tuple[str, ...] = (),
    config: Annotated[BuildConfig, tyro.conf.arg(name="")] = BuildConfig(),
) -> None:
    """Writes a dataset as array_record files for training.

    Args:
        name: A dataset of cardiojax data list, or a new name for a folder of images and masks of your own.
        manual_dir: The unpacked download, or your folder.
        data_dir: Where datasets are kept.
        structures: What the labels 1, 2, ... of your own masks mean, such as lv myocardium right_ventricle; for other
            values each with its own, such as lv=255.
        config: The kind of examples and the held-out patients.
    """
    layout = _layout(name, structures)
    survey = find_recordings(layout, manual_dir, config.kind)
    counts = build_dataset(layout, manual_dir, data_dir, config, survey=survey)
    print(f"{name}/{config.kind} in {data_dir}: " + ", ".join(f"{n} in {split}" for split, n in counts.items()))
    if found := len(survey.defects):
        listed = f"{found} defect{'' if found == 1 else 's'}, which cardiojax data check lists"
        print(f"The download has {listed}; recordings without an image, a mask or a valid row are left out.")


def build_phantom_command(
    *, data_dir: Path, config: Annotated[PhantomSet, tyro.conf.arg(name="")] = PhantomSet()
) -> None:
    """Simulates annotated loops and writes them as array_record files.

    Args:
        data_dir: Where datasets are kept.
        config: What is simulated.
    """
    counts = build_phantom(data_dir, config)
    print(f"phantom/{config.name} in {data_dir}: " + ", ".join(f"{n} in {split}" for split, n in counts.items()))


def _layout(name: str, structures: tuple[str, ...]) -> Layout:
    if name in LAYOUTS:
        if structures:
            raise ValueError(f"the structures of {name} are known; choose another name for a folder of your own")
        return LAYOUTS[name]
    if not structures:
        raise ValueError(
            f"there is no dataset {name!r}, only {', '.join(LAYOUTS)}; a folder of your own needs --structures"
        )
    pairs = [each.partition("=") for each in structures]
    stated = [value for _, separator, value in pairs if separator]
    if stated and (len(stated) < len(pairs) or not all(value.isascii() and value.isdecimal() for value in stated)):
        raise ValueError(f"expected names, or each with its value such as lv=255, got {' '.join(structures)}")
    values = [0, *map(int, stated)] if stated else ()
    return folder_layout(name, Structures(("background", *(each for each, _, _ in pairs))), values=values)


def _details(layout: Layout) -> str:
    fields = {
        "labels": ", ".join(f"{label} {name}" for label, name in enumerate(layout.structures.names)),
        "kinds": ", ".join(layout.kinds),
        "download": layout.download,
        "licence": layout.licence,
        "citation": layout.citation,
    }
    lines = [textwrap.fill(f"{key}: {text}", 110, subsequent_indent="    ") for key, text in fields.items()]
    return "\n".join([f"{layout.name}: {layout.description}", *lines, "files:", textwrap.indent(layout.tree, "    ")])
