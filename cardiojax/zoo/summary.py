"""Where the parameters of a model are."""

from typing import NamedTuple

from jaxtyping import PyTree

from cardiojax.zoo.registry import abstract_variables
from cardiojax.zoo.weights import flatten


class Row(NamedTuple):
    """Parameters of a module and all within it.

    Attributes:
        module: Its path, empty for the whole model.
        weights: Numbers in matrices and convolution kernels.
        others: Numbers in biases, norms, positions and tokens.
    """

    module: str
    weights: int
    others: int

    @property
    def total(self) -> int:
        """All its numbers."""
        return self.weights + self.others


class Summary(NamedTuple):
    """Rows of a table; ``print`` it."""

    rows: tuple[Row, ...]

    def __getitem__(self, module: str) -> Row:  # type: ignore[override]
        """The row of a module."""
        for row in self.rows:
            if row.module == module:
                return row
        raise KeyError(f"no module {module!r} in the table")

    def __str__(self) -> str:
        width = max(len("module"), *(len(row.module) for row in self.rows))
        lines = [f"{'module':<{width}} {'weights':>13} {'others':>11} {'total':>13}"]
        for row in self.rows:
            name = row.module or "all"
            lines.append(f"{name:<{width}} {row.weights:>13,} {row.others:>11,} {row.total:>13,}")
        return "\n".join(lines)


def summary(name: str, *, depth: int = 2, **overrides) -> Summary:
    """Counts the parameters of a model of the zoo, module by module.

    Args:
        name: A name of `list_models`.
        depth: Levels of modules that get a row.
        **overrides: Fields of the configuration to replace.

    Returns:
        A row a module, the whole model first.

    Raises:
        KeyError: If there is no such model.

    Example:
        >>> print(summary("unet_lecture", depth=0))
        module       weights      others         total
        all        2,156,752       1,716     2,158,468
    """
    return summarize(abstract_variables(name, **overrides)["params"], depth=depth)


def summarize(params: PyTree, *, depth: int = 2) -> Summary:
    """Counts the parameters in a tree, module by module.

    Args:
        params: Nested dictionaries of arrays or of their shapes.
        depth: Levels of modules that get a row.

    Returns:
        A row a module, the whole tree first.

    Example:
        >>> import jax.numpy as jnp
        >>> summarize({"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}).rows[0]
        Row(module='', weights=6, others=3)
    """
    counts: dict[str, list[int]] = {}
    for path, leaf in flatten(params).items():
        *modules, kind = path.split("/")
        for level in range(min(depth, len(modules)) + 1):
            row = counts.setdefault("/".join(modules[:level]), [0, 0])
            row[kind != "kernel"] += leaf.size
    return Summary(tuple(Row(module, *count) for module, count in counts.items()))
