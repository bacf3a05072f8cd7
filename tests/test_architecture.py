"""The architecture of the package: which subpackage may import which, and what an import costs."""

import ast
import builtins
import dis
import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

import cardiojax

PACKAGE = Path(cardiojax.__file__).parent
CHECKOUT = Path(__file__).parents[1]

#: An import may only point to a lower layer; subpackages of one layer do not import each other.
LAYERS = {
    "types": 0, "labels": 0, "ops": 0, "optimizer": 0, "storage": 0, "validation": 0,
    "anatomy": 1, "clinical": 1, "latent": 1, "losses": 1, "metrics": 1, "temporal": 1,
    "adaptation": 2, "models": 2, "uncertainty": 2,
    "data": 3, "train": 3, "zoo": 3, "runtime": 3,
    "measurement": 4,
    "correction": 5,
    "analysis": 6, "recipes": 6,
    "report": 7,
    "evaluation": 8,
    "cli": 9,
}  # fmt: skip

#: The only files that may import a heavy or replaceable dependency.
IMPORTERS = {
    "flax": ("models/",),
    "orbax": ("train/checkpoints.py",),
    "tensorboardX": ("train/logs.py",),
    "grain": ("data/loader.py",),
    "tensorstore": ("data/bank.py",),
    "tensorflow_datasets": ("data/camus/", "data/phantom/", "data/records.py"),
    "dm_pix": ("data/augment.py",),
    "pydicom": ("data/",),
    "av": ("data/",),
    "nibabel": ("data/",),
    "safetensors": ("zoo/weights.py",),
    "matplotlib": ("report/figures.py",),
    "tyro": ("cli/",),
}


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            if node.module == "cardiojax":
                yield from (f"cardiojax.{alias.name}" for alias in node.names)


def subpackage(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "cardiojax" else None


SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p not in (PACKAGE / "__init__.py", PACKAGE / "__main__.py"))
TOOLS = sorted(p for top in ("experiments", "benchmarks") for p in (CHECKOUT / top).rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_to_lower_layers_and_dependencies_have_one_importer(path):
    relative = str(path.relative_to(PACKAGE))
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports(path):
        there = subpackage(module)
        if there is not None and there != here:
            assert LAYERS[there] < LAYERS[here], f"{relative} imports {module}"
        package = module.split(".")[0]
        if package in IMPORTERS:
            assert relative.startswith(IMPORTERS[package]), f"{relative} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 400


MODULE_NAMES = {"__name__", "__file__", "__doc__", "__qualname__", "__module__", "__annotations__"}


def names_used(code: types.CodeType):
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield step.argval
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from names_used(inner)


@pytest.mark.parametrize("path", [*SOURCES, *TOOLS], ids=lambda p: "/".join(p.parts[-3:]))
def test_every_name_is_defined(path):
    # Linters confuse a missing import with the shapes in annotations, which are no names.
    code = compile(path.read_text(), str(path), "exec")
    known = {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_NAME"}
    assert set(names_used(code)) <= known | set(vars(builtins)) | MODULE_NAMES


def test_import_is_light():
    code = (
        "import sys, cardiojax; heavy = {'matplotlib', 'tensorflow_datasets', 'tensorflow', 'grain', 'pydicom', 'av',"
        " 'nibabel', 'orbax', 'torch', 'tyro', 'rich', 'tensorboardX', 'PIL', 'safetensors'};"
        " print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(cardiojax._SUBPACKAGES))
def test_every_export_has_a_docstring(name):
    module = importlib.import_module(f"cardiojax.{name}")
    assert (module.__doc__ or "").strip(". \n")
    for export, value in vars(module).items():
        if (
            export.startswith("_")
            or not callable(value)
            or not getattr(value, "__module__", "").startswith("cardiojax")
        ):
            continue
        assert (value.__doc__ or "").strip(), f"{name}.{export} has no docstring"
