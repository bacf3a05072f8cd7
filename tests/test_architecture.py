"""The architecture of the package: which subpackage may import which, and what an import costs."""

import ast
import builtins
import dis
import importlib
import subprocess
import sys
import types
from collections import Counter
from graphlib import TopologicalSorter

import pytest

import cardiojax
from tests.helpers.imports import CHECKOUT, LAYERS, PACKAGE, PAGE, drawing, imports, module_graph, subpackage

TREES = ("experiments", "benchmarks", "tests")

#: The only files that may import a heavy or replaceable dependency.
IMPORTERS = {
    "flax": ("models/",),
    "orbax": ("train/checkpoints.py",),
    "tensorboardX": ("train/logs.py",),
    "grain": ("data/loader.py",),
    "tensorstore": ("data/bank.py",),
    "tensorflow_datasets": ("data/datasets/", "data/phantom/", "data/records.py"),
    "openpyxl": ("data/datasets/layouts/tables.py",),
    "dm_pix": ("data/augment.py",),
    "pydicom": ("data/", "report/dicom/"),
    "highdicom": ("report/dicom/",),
    "av": ("data/",),
    "nibabel": ("data/",),
    "pooch": ("zoo/originals/download.py",),
    "safetensors": ("zoo/weights.py",),
    "matplotlib": ("report/figures.py",),
    "pandas": ("report/table.py",),
    "pyarrow": ("archive/table.py",),
    "ray": ("archive/cluster.py",),
    "tyro": ("cli/",),
}


SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p not in (PACKAGE / "__init__.py", PACKAGE / "__main__.py"))
TOOLS = sorted(p for top in TREES[:2] for p in (CHECKOUT / top).rglob("*.py"))


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


#: Files that are read and changed by hand, in the whole checkout.
ALL = sorted(p for top in ("cardiojax", *TREES) for p in (CHECKOUT / top).rglob("*.py"))


def test_folders_hold_at_most_twelve_files():
    sizes = Counter(path.parent.relative_to(CHECKOUT) for path in ALL)
    assert {str(folder): size for folder, size in sizes.items() if size > 12} == {}


def test_files_have_at_most_400_lines():
    assert [str(path.relative_to(CHECKOUT)) for path in ALL if len(path.read_text().splitlines()) > 400] == []


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the signature to the end, without the docstring."""
    first, num = function.body[0], function.end_lineno - function.lineno + 1
    return num - (first.end_lineno - first.lineno + 1 if ast.get_docstring(function) else 0)


def test_functions_have_at_most_60_lines_of_code():
    functions = (
        (path, node)
        for path in ALL
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert [f"{path.relative_to(CHECKOUT)}:{node.name}" for path, node in functions if lines_of_code(node) > 60] == []


def test_imports_have_no_cycle():
    """Between the modules of the package, whatever their layer; an import inside a function counts."""
    TopologicalSorter(module_graph()).prepare()


def test_the_drawing_is_of_the_code():
    assert drawing() in PAGE.read_text(), "run python -m tests.helpers.imports"


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
        " 'nibabel', 'orbax', 'torch', 'tyro', 'rich', 'tensorboardX', 'PIL', 'safetensors', 'pandas'};"
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
