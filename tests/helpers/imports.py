"""The imports of the package: as a graph of modules, and drawn by subpackage and layer.

Run ``python -m tests.helpers.imports`` to write the drawing into ``docs/architecture.md``.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "cardiojax"
PAGE = CHECKOUT / "docs" / "architecture.md"

#: An import may only point to a lower layer; subpackages of one layer do not import each other.
LAYERS = {
    "types": -1,
    "labels": 0, "ops": 0, "optimizer": 0, "storage": 0, "validation": 0,
    "anatomy": 1, "clinical": 1, "latent": 1, "losses": 1, "metrics": 1, "temporal": 1,
    "adaptation": 2, "models": 2, "uncertainty": 2,
    "data": 3, "train": 3, "zoo": 3, "runtime": 3,
    "measurement": 4,
    "correction": 5,
    "analysis": 6, "recipes": 6,
    "study": 7,
    "report": 8,
    "archive": 9, "evaluation": 9,
    "cli": 10,
}  # fmt: skip

_TITLES = {
    0: "arrays and files", 1: "methods on arrays", 2: "networks, and methods that take one", 3: "data and state"
}  # fmt: skip


def imports(path: Path) -> Iterator[str]:
    """The full name of everything that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def subpackage(module: str) -> str | None:
    """The subpackage of cardiojax that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "cardiojax" else None


def module_graph() -> dict[str, set[str]]:
    """Each module of the package with the modules of the package that it imports, also inside functions."""
    paths = {_name(path): path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py"}
    del paths["cardiojax"]
    graph = {}
    for name, path in paths.items():
        targets = {m if m in paths else m.rpartition(".")[0] for m in imports(path)}
        graph[name] = (targets & paths.keys()) - {name}
    return graph


def drawing() -> str:
    """The imports as a Mermaid flowchart: a box a subpackage, an arrow for each that no longer path implies."""
    arrows: dict[str, set[str]] = {name: set() for name in LAYERS}
    for module, targets in module_graph().items():
        arrows[subpackage(module)] |= {subpackage(target) for target in targets} - {subpackage(module)}
    lines = ["```mermaid", "flowchart TD"]
    for layer in sorted(set(LAYERS.values()), reverse=True):
        names = [name for name, its_layer in LAYERS.items() if its_layer == layer]
        if layer in _TITLES:
            lines += [f'    subgraph layer{layer} ["{_TITLES[layer]}"]', *(f"        {n}" for n in names), "    end"]
        else:
            lines += [f"    {name}" for name in names]
    for name, targets in arrows.items():
        implied = set().union(*(_reachable(arrows, target) for target in targets))
        lines += [f"    {name} --> {target}" for target in sorted(targets - implied)]
    return "\n".join([*lines, "```"])


def write_drawing() -> None:
    """Replaces the drawing in the page."""
    page = re.sub(r"```mermaid\n.*?```", lambda _: drawing(), PAGE.read_text(), count=1, flags=re.S)
    PAGE.write_text(page)


def _name(path: Path) -> str:
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _reachable(arrows: Mapping[str, set[str]], start: str) -> set[str]:
    return set().union(*({target} | _reachable(arrows, target) for target in arrows[start]))


if __name__ == "__main__":
    write_drawing()
