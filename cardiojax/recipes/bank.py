"""``cardiojax densify``: a bank of codes of plausible hearts for an autoencoder of the zoo."""

import dataclasses
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from cardiojax import anatomy, latent, zoo
from cardiojax.correction.anatomical import Shapes, load_shapes
from cardiojax.data.bank import Bank, Progress
from cardiojax.recipes.densify import DensifyConfig, densify
from cardiojax.recipes.segmentation import open_split


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildBankConfig:
    """A bank: a Parzen density of the codes of the training masks, sampled, decoded, judged.

    Attributes:
        data: Folder with ``camus224_train.npz``, or that of ``cardiojax data build camus``.
        out: The bank, by habit named ``*.zarr``; one found there is gone on with.
        packed: Weight file that gets the codes as well, as those that come with the package.
        model: An autoencoder of the zoo.
        weights: A weight file for it; the packaged one if not given.
        bandwidth: Of the density, in the unit of the codes; by cross-validation if not given.
        sizes: Sides of the square grids on which a shape must pass.
        draws: Size and draws.
    """

    data: Path
    out: Path
    packed: Path | None = None
    model: str = "cvae_camus"
    weights: Path | None = None
    bandwidth: float | None = None
    sizes: tuple[int, ...] = (224,)
    draws: DensifyConfig = DensifyConfig()


def build_bank(config: BuildBankConfig, *, progress: Callable[[Progress], None] | None = None) -> Bank:
    """Fills a bank on all devices, going on with one that is found.

    Args:
        config: The bank.
        progress: Is told the counts after every round.

    Returns:
        The bank.

    Raises:
        BankError: If the folder holds a bank of other facts.
    """
    shapes = load_shapes(config.model, weights=config.weights)
    source = open_split(config.data, "train")
    codes = encode_all(shapes, np.stack([source[i]["label"] for i in range(len(source))]).astype(np.int32))
    bandwidth = "cv" if config.bandwidth is None else config.bandwidth

    def is_valid(logits):
        verdicts = [
            anatomy.is_valid(jax.image.resize(logits, (len(logits), s, s, logits.shape[-1]), "linear").argmax(-1))
            for s in config.sizes
        ]
        return jnp.stack(verdicts).all(0)

    num_devices = math.gcd(jax.device_count(), config.draws.blocks_per_round)
    bank = densify(
        config.out,
        latent.fit_parzen(jnp.asarray(codes), bandwidth=bandwidth, key=jax.random.key(config.draws.seed)),
        decode=lambda z: shapes.model.apply(shapes.variables, z, method="decode"),
        is_valid=is_valid,
        config=config.draws,
        facts={"model": config.model, "weights": _checksum(shapes.variables), "sizes": list(config.sizes)},
        mesh=Mesh(np.array(jax.devices()[:num_devices]), ("blocks",)) if num_devices > 1 else None,
        progress=progress,
    )
    if config.packed is not None:
        zoo.save_weights(config.packed, {"codes": bank.codes})
    return bank


def _checksum(variables: PyTree) -> int:
    value = 0
    for leaf in jax.tree.leaves(variables):
        value = zlib.crc32(np.asarray(leaf).tobytes(), value)
    return value


def encode_all(shapes: Shapes, masks: np.ndarray, *, batch_size: int = 50) -> np.ndarray:
    """Encodes many masks a batch at a time.

    Args:
        shapes: The autoencoder.
        masks: ``[n, h, w]``.
        batch_size: Masks a batch.

    Returns:
        Codes, ``[n, d]``.
    """
    encode = jax.jit(shapes.encode)
    parts = []
    for start in range(0, len(masks), batch_size):
        part = masks[start : start + batch_size]
        parts.append(np.asarray(encode(np.resize(part, (batch_size, *part.shape[1:]))))[: len(part)])
    return np.concatenate(parts)
