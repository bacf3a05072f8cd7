"""Batches for training and evaluation. The only importer of Grain."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np

from cardiojax.validation import check_range, check_seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How examples become batches.

    Attributes:
        batch_size: Examples a batch and process.
        seed: Seed of the order.
        shuffle: Whether the order changes, differently in each epoch.
        num_epochs: Passes over the data, None for no end.
        drop_remainder: Whether a last batch that is not full is left out; otherwise it is padded.
        num_threads: Threads that read ahead.
        prefetch: Examples read ahead.
    """

    batch_size: int = 8
    seed: int = 0
    shuffle: bool = True
    num_epochs: int | None = None
    drop_remainder: bool = True
    num_threads: int = 2
    prefetch: int = 32

    def __post_init__(self):
        check_range(self, "batch_size", low=1)
        check_range(self, "num_threads", "prefetch", low=0)
        check_seed(self)
        if self.num_epochs is not None:
            check_range(self, "num_epochs", low=1)


def make_loader(
    source: Any, config: LoaderConfig = LoaderConfig(), *, process_index: int = 0, process_count: int = 1
) -> grain.DatasetIterator:
    """Makes an iterator over batches that is deterministic in its seed and can be resumed.

    ``get_state()`` and ``set_state(state)`` save and restore the position exactly. Processes get disjoint shares of
    equal length, so that none waits for another.

    Args:
        source: ``len(source)`` examples, ``source[i]`` a dictionary of arrays and text.
        config: How they become batches.
        process_index: This process, ``jax.process_index()`` in a job of several.
        process_count: All processes, ``jax.process_count()``.

    Returns:
        An iterator over dictionaries of stacked arrays. ``weight`` (float32 ``[b]``) is 1 for an example and 0 for
        padding. Images of different sizes are padded with zeros below and to the right to the largest of the batch.

    Raises:
        ValueError: If a process would get no batch.
    """
    chunk = config.batch_size * process_count
    num_batches = len(source) // chunk if config.drop_remainder else -(-len(source) // chunk)
    if num_batches < 1:
        raise ValueError(
            f"{len(source)} examples for {process_count} processes give no batch of {config.batch_size}; "
            "lower the batch size or keep the remainder"
        )
    data = grain.MapDataset.source(_Weighted(source, max(num_batches * chunk, len(source)))).seed(config.seed)
    if config.shuffle:
        data = data.shuffle()  # before the cut, so that another remainder is left out in each epoch
    data = data.slice(slice(process_index, num_batches * chunk, process_count)).repeat(config.num_epochs)
    data = data.batch(config.batch_size, batch_fn=_stack)
    options = grain.ReadOptions(num_threads=config.num_threads, prefetch_buffer_size=config.prefetch)
    return iter(data.to_iter_dataset(options))


class _Weighted:
    """A source with ``weight`` added, lengthened by copies of weight 0."""

    def __init__(self, source: Any, length: int):
        self._source, self._length = source, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        is_real = index < len(self._source)
        return {**self._source[index if is_real else 0], "weight": np.float32(is_real)}


class MappedBatches:
    """Batches of a loader, each changed by a function; the position is the loader's.

    Args:
        loader: What `make_loader` returned.
        function: From a dictionary of arrays to the batch.
    """

    def __init__(self, loader: Any, function: Callable[[dict[str, Any]], Any]):
        self._loader, self._function = loader, function

    def __iter__(self) -> "MappedBatches":
        return self

    def __next__(self) -> Any:
        return self._function(next(self._loader))

    def get_state(self) -> Any:
        """The loader's position."""
        return self._loader.get_state()

    def set_state(self, state: Any) -> None:
        """Moves the loader."""
        self._loader.set_state(state)


def _stack(examples: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {name: _stack_padded([np.asarray(e[name]) for e in examples]) for name in examples[0]}


def _stack_padded(arrays: Sequence[np.ndarray]) -> np.ndarray:
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        target = np.max([list(shape) for shape in shapes], axis=0)
        arrays = [np.pad(a, [(0, t - n) for t, n in zip(target, a.shape, strict=True)]) for a in arrays]
    return np.stack(arrays)
