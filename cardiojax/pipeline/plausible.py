"""The guarantee: any mask brought to a nearby plausible heart, by an autoencoder and a bank of its codes."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from cardiojax import anatomy, latent, zoo
from cardiojax.data.shapes import resize_masks

#: First row, row after the last, first column, column after the last.
Box = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shapes:
    """A shape autoencoder with its weights: masks of any size to codes and back.

    Attributes:
        name: Its name in the zoo.
        model: The Flax module.
        variables: Its weights.
    """

    name: str
    model: Any
    variables: PyTree

    def encode(self, masks: Int[Array, "*b h w"]) -> Float[Array, "*b d"]:
        """Codes of label maps: the mean of the posterior."""
        probs = resize_masks(masks, self.model.config.size, num_classes=self.model.config.num_classes)
        return self.model.apply(self.variables, probs, method="encode").mean

    def decode(self, codes: Float[Array, "*b d"], height: int, width: int) -> Int[Array, "*b height width"]:
        """Label maps of codes; logits are interpolated, so that the outlines are smooth."""
        logits = self.model.apply(self.variables, codes, method="decode")
        return jax.image.resize(logits, (*codes.shape[:-1], height, width, logits.shape[-1]), "linear").argmax(-1)


def make_corrector(name: str = "cvae_camus", **options: Any) -> "Corrector":
    """Loads an autoencoder of the zoo with its packaged bank.

    Args:
        name: Its name.
        **options: Of `Corrector`.

    Returns:
        The corrector.
    """
    return Corrector(load_shapes(name), zoo.load_bank(name), **options)


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


class Corrected(NamedTuple):
    """Masks that pass the 12 criteria.

    Attributes:
        before: The masks that came, int32 ``[n, h, w]``.
        masks: What they became; plausible ones to the bit as they came, int32 ``[n, h, w]``.
        plausible: Verdict on each input, ``[n]``.
        valid: Verdict on each result; false only on grids too small for any heart to pass, ``[n]``.
        distance: Length of the move in the latent space, 0 where nothing moved, infinite where no code of the bank
            helped and a known heart was put in, ``[n]``.
        changed: Pixels changed, as a share of those of the heart, ``[n]``.
    """

    before: np.ndarray
    masks: np.ndarray
    plausible: np.ndarray
    valid: np.ndarray
    distance: np.ndarray
    changed: np.ndarray


class Corrector:
    """Corrects masks. For each size of them one verdict and one decoder are compiled, and used for every step.

    Args:
        shapes: The autoencoder.
        bank: Codes of plausible hearts, ``[n, d]``, nearest neighbours in the Euclidean metric.
        num_neighbours: Codes of the bank to walk towards, eight times as many where none of them passes; the published
            method takes 1.
        num_halvings: Steps of the dichotomy.
        batch_size: Masks judged and corrected together.
    """

    def __init__(
        self, shapes: Shapes, bank: np.ndarray, *, num_neighbours: int = 2, num_halvings: int = 6, batch_size: int = 4
    ):
        self.shapes, self.batch_size = shapes, batch_size
        self._bank = jnp.asarray(bank, jnp.float32)
        self._num_neighbours, self._num_halvings = num_neighbours, num_halvings
        self._is_valid = jax.jit(anatomy.is_valid)
        self._encode = jax.jit(self._encode_box, static_argnums=1)
        self._decode = jax.jit(self._decode_box, static_argnums=(1, 2, 3))

    def __call__(self, masks: np.ndarray, *, box: Box | None = None) -> Corrected:
        """Corrects the implausible masks.

        Args:
            masks: Label maps, ``[n, h, w]``.
            box: Part of the image that the autoencoder sees as its square, the whole if not given. Masks are judged on
                the whole image.

        Returns:
            The masks and what became of them.
        """
        masks = np.asarray(masks, np.int32)
        num, height, width = masks.shape
        box = box or (0, height, 0, width)
        plausible = self._judge(masks)
        result, distance = masks.copy(), np.zeros(num, np.float32)
        wrong = rows = np.flatnonzero(~plausible)
        for num_neighbours in (self._num_neighbours, 8 * self._num_neighbours):
            for start in range(0, len(rows), self.batch_size):
                chunk = rows[start : start + self.batch_size]
                block = np.resize(chunk, self.batch_size)  # one shape, one compilation; what is repeated is left out
                found = self._correct(jnp.asarray(masks[block]), box, num_neighbours)
                result[chunk] = np.asarray(found.masks)[: len(chunk)]
                distance[chunk] = np.asarray(found.distance)[: len(chunk)]
            rows = rows[np.isinf(distance[rows])]  # the nearest codes do not pass on this grid: look farther
        valid = plausible.copy()
        valid[wrong] = self._judge(result[wrong])
        heart = np.maximum(((masks > 0) | (result > 0)).sum((1, 2)), 1)
        return Corrected(masks, result, plausible, valid, distance, (masks != result).sum((1, 2)) / heart)

    def _judge(self, masks: np.ndarray | Array) -> np.ndarray:
        verdicts = np.zeros(len(masks), bool)
        for start in range(0, len(masks), self.batch_size):
            part = np.asarray(masks[start : start + self.batch_size])
            block = np.resize(part, (self.batch_size, *part.shape[1:]))
            verdicts[start : start + len(part)] = np.asarray(self._is_valid(jnp.asarray(block)))[: len(part)]
        return verdicts

    def _correct(self, masks: Array, box: Box, num_neighbours: int) -> latent.MaskCorrection:
        height, width = masks.shape[1:]

        def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments):
                with jax.disable_jit(False):
                    return function(*arguments)

            return call

        decode = compiled(lambda codes, _: self._decode(codes, height, width, box))
        is_valid = compiled(lambda masks: jnp.asarray(self._judge(masks)))
        first = decode(self._bank[np.arange(self.batch_size) % len(self._bank)], None)
        # The steps of the walk run in Python: compiled as one program, they would hold the verdict six times over.
        with jax.disable_jit():
            return latent.correct_masks(
                masks,
                self._bank,
                encode=compiled(lambda masks: (self._encode(masks, box), None)),
                decode=decode,
                is_valid=is_valid,
                known=first[is_valid(first).argmax()],
                num_neighbours=num_neighbours,
                num_halvings=self._num_halvings,
            )

    def _encode_box(self, masks: Array, box: Box) -> Array:
        top, bottom, left, right = box
        return self.shapes.encode(masks[:, top:bottom, left:right])

    def _decode_box(self, codes: Array, height: int, width: int, box: Box) -> Array:
        top, bottom, left, right = box
        inside = self.shapes.decode(codes, bottom - top, right - left)
        return jnp.pad(inside, ((0, 0), (top, height - bottom), (left, width - right)))
