"""Anatomical correction: an invalid label map becomes a nearby valid one, by an autoencoder and a bank of its codes."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from cardiojax import anatomy, latent, ops, zoo
from cardiojax.data.shapes import resize_masks
from cardiojax.runtime import aot, map_full_batches
from cardiojax.types import Box

#: Number of codes, the first of the bank, that are tried where none of the nearest decodes to a valid label map.
_NUM_FALLBACKS = 8

#: Neighbours that are tried after the first `num_neighbours`, as a multiple of them, where none of those is valid.
_MORE_NEIGHBOURS = 7

#: Codes that are decoded at a time on CPU. With 8, feature maps and logits take half the time that they take with 256.
_NUM_DECODED = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shapes:
    """A shape autoencoder with its weights: label maps of any size to codes and back.

    Attributes:
        name: Its name in the zoo.
        model: The Flax module.
        variables: Its weights.
    """

    name: str
    model: Any
    variables: PyTree

    def encode(self, labels: Int[Array, "*b h w"], box: Int[Array, "4"] | None = None) -> Float[Array, "*b d"]:
        """Codes of label maps, or of their part inside a box: the mean of the posterior."""
        size, num_classes = self.model.config.size, self.model.config.num_classes
        if box is None:
            probs = resize_masks(labels, size, num_classes=num_classes)
        else:
            probs = ops.resample_from_box(jax.nn.one_hot(labels, num_classes), box, height=size, width=size)
        return self.model.apply(self.variables, probs, method="encode").mean

    def decode(
        self, codes: Float[Array, "*b d"], height: int, width: int, box: Int[Array, "4"] | None = None
    ) -> Int[Array, "*b height width"]:
        """Label maps of codes, or those that fill a box; logits are interpolated, so that the outlines are smooth."""
        if box is None:
            return self.map_logits(lambda logits: ops.resize_argmax(logits, height=height, width=width), codes)
        return self.map_logits(lambda logits: ops.resize_argmax_to_box(logits, box, height=height, width=width), codes)

    def map_logits(self, function: Callable[[Float[Array, "n s s k"]], Any], codes: Float[Array, "*b d"]) -> Any:
        """Applies a function to the logits of codes, of a few codes at a time on CPU: they stay in the cache of a core.

        Args:
            function: Logits to a pytree of arrays of the same length.
            codes: Codes.

        Returns:
            The function's pytree, with the leading axes of the codes.
        """

        def of_codes(codes: Float[Array, "n d"]) -> Any:
            return function(self.model.apply(self.variables, codes, method="decode"))

        return ops.map_blocks(of_codes, codes, block_size=_NUM_DECODED if jax.default_backend() == "cpu" else None)


def make_anatomical_corrector(name: str = "cvae_camus", **options: Any) -> "AnatomicalCorrector":
    """Loads an autoencoder of the zoo with its packaged bank.

    Args:
        name: Its name.
        **options: Of `AnatomicalCorrector`.

    Returns:
        The corrector.
    """
    return AnatomicalCorrector(load_shapes(name), zoo.load_bank(name), **options)


def load_shapes(name: str = "cvae_camus", *, weights: str | Path | None = None) -> Shapes:
    """Loads a shape autoencoder.

    Args:
        name: Its name in the zoo.
        weights: A weight file for it; the packaged one if not given.

    Returns:
        The autoencoder.
    """
    model, variables = zoo.load(name, weights=weights)
    return Shapes(name=name, model=model, variables=variables)


class AnatomicalCorrection(NamedTuple):
    """Label maps that meet the 12 anatomical criteria.

    Attributes:
        before: The given label maps, int32 ``[n, h, w]``.
        labels: The corrected label maps; valid ones are unchanged, int32 ``[n, h, w]``.
        was_valid: Whether each given label map is valid, ``[n]``.
        valid: Whether each corrected one is; false only on grids that are too small for a valid heart, ``[n]``.
        distance: Length of the move in the latent space, 0 where nothing moved, infinite where no code of the bank
            decodes to a valid label map and the given one is returned, ``[n]``.
        changed: Pixels changed, as a fraction of those of the heart, ``[n]``.
    """

    before: np.ndarray
    labels: np.ndarray
    was_valid: np.ndarray
    valid: np.ndarray
    distance: np.ndarray
    changed: np.ndarray


@runtime_checkable
class CorrectAnatomy(Protocol):
    """Corrects label maps to anatomically valid ones, as `AnatomicalCorrector` does."""

    def __call__(self, labels: np.ndarray, *, box: Box) -> AnatomicalCorrection:
        """Corrects label maps ``[n, h, w]``; the autoencoder sees the part of the image inside ``box``."""
        ...


class AnatomicalCorrector:
    """Corrects label maps. One function, which checks and corrects, is compiled for each size of the label maps.

    Args:
        shapes: The autoencoder.
        bank: Codes of anatomically valid hearts, ``[n, d]``; neighbours are the nearest in the Euclidean metric.
        num_neighbours: Nearest codes of the bank towards which a code is moved. Where none of them decodes to a valid
            label map, up to eight times as many are tried. The published method takes 1.
        num_bisections: Bisections of the segment from a code to its neighbour. Without any, the neighbour itself is
            taken: as valid, but farther away.
        batch_size: Label maps in a call. A large one takes less time a map, because flood fills walk over the rows of
            all of them together.
        optimization_level: Of the compiler. 0 compiles in half the time and runs at half the speed, for few label maps;
            3 is for thousands.
    """

    def __init__(
        self,
        shapes: Shapes,
        bank: np.ndarray,
        *,
        num_neighbours: int = 2,
        num_bisections: int = 6,
        batch_size: int = 2,
        optimization_level: int = 0,
    ):
        self.shapes, self.batch_size = shapes, batch_size
        self._constants = (shapes.variables, jnp.asarray(bank, jnp.float32))
        self._num_neighbours, self._num_bisections = num_neighbours, num_bisections
        self._compiled = aot.CompiledFunction(
            self._correct,
            options=lambda: ops.brief_compiler_options(optimization_level),
        )

    def compile(self, height: int, width: int) -> None:
        """Begins to compile for a size of label maps in the background, so that the first call need not wait as long.

        Args:
            height: Their height.
            width: Their width.
        """
        labels = jax.ShapeDtypeStruct((self.batch_size, height, width), jnp.int32)
        box = jax.ShapeDtypeStruct((4,), jnp.int32)
        self._compiled.compile(*self._constants, labels, jax.ShapeDtypeStruct((), bool), box)

    def __call__(self, labels: np.ndarray, *, box: Box | None = None) -> AnatomicalCorrection:
        """Corrects the invalid label maps.

        Args:
            labels: Label maps, ``[n, h, w]``.
            box: Part of the image that is resampled to the square grid of the autoencoder, the whole if not given. The
                criteria are evaluated on the whole image.

        Returns:
            The corrected label maps.
        """
        labels = np.asarray(labels, np.int32)
        num, height, width = labels.shape
        edges = np.asarray(box or (0, height, 0, width), np.int32)
        result, distance = labels.copy(), np.zeros(num, np.float32)
        was_valid, valid = np.zeros(num, bool), np.zeros(num, bool)

        def run(rows: np.ndarray, check_only: bool) -> None:
            if not len(rows):
                return
            corrected = map_full_batches(
                lambda masks: self._compiled(*self._constants, masks, np.bool_(check_only), edges),
                labels[rows],
                batch_size=self.batch_size,
            )
            for array, values in zip((result, was_valid, valid, distance), corrected, strict=True):
                array[rows] = values

        run(np.arange(num), True)
        distance[:] = 0  # a check alone gives invalid label maps an infinite distance
        run(np.flatnonzero(~was_valid), False)  # full batches of invalid label maps
        heart = np.maximum(((labels > 0) | (result > 0)).sum((1, 2)), 1)
        return AnatomicalCorrection(labels, result, was_valid, valid, distance, (labels != result).sum((1, 2)) / heart)

    def _correct(
        self, variables: PyTree, bank: Array, labels: Array, check_only: Array, box: Array
    ) -> tuple[Array, Array, Array, Array]:
        height, width = labels.shape[1:]
        shapes = dataclasses.replace(self.shapes, variables=variables)

        def encode(labels):
            return shapes.encode(labels, box), None

        def decode(codes, _):
            return shapes.decode(codes, height, width, box)

        corrected = latent.correct_masks(
            labels,
            bank,
            encode=encode,
            decode=decode,
            is_valid=anatomy.is_valid,
            check_only=check_only,
            fallbacks=bank[:_NUM_FALLBACKS],
            num_neighbours=self._num_neighbours,
            num_extra_neighbours=_MORE_NEIGHBOURS * self._num_neighbours,
            num_bisections=self._num_bisections,
        )
        return corrected.masks, corrected.was_valid, corrected.valid, corrected.distance
