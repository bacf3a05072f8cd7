"""``cardiojax densify``: a bank of codes of anatomically valid shapes for an autoencoder of the zoo."""

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

from cardiojax import anatomy, latent, ops, train, zoo
from cardiojax.correction.anatomical import Shapes, load_shapes
from cardiojax.data.arrays import stack_examples
from cardiojax.data.bank import BankProgress, LatentBank
from cardiojax.data.datasets import open_frames
from cardiojax.labels import CAMUS
from cardiojax.recipes.densify import DensifyConfig, densify
from cardiojax.validation import MAX_SIZE, check_range


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildBankConfig:
    """A bank: a Parzen density of the codes of the training masks is sampled, and the valid shapes are kept.

    Attributes:
        data: Folder with ``camus224_train.npz``, or that of ``cardiojax data build camus``.
        out: The bank, by habit named ``*.zarr``; one found there is resumed.
        packed: Weight file to which the codes are written as well, in the form of the packaged banks.
        model: An autoencoder of the zoo.
        weights: A weight file for it; the packaged one if not given.
        bandwidth: Of the density, in the unit of the codes; by cross-validation if not given.
        sizes: Heights and widths of the square grids on which a shape must be valid.
        draws: Size and draws.
        mesh: Devices and processes that share the draws, by its ``data``; all of them if not given. The bank is the
            same on any, and may be resumed on others.
    """

    data: Path
    out: Path
    packed: Path | None = None
    model: str = "cvae_camus"
    weights: Path | None = None
    bandwidth: float | None = None
    sizes: tuple[int, ...] = (224,)
    draws: DensifyConfig = DensifyConfig()
    mesh: train.MeshConfig = train.MeshConfig(data=0)

    def __post_init__(self):
        check_range(self, "sizes", low=1, high=MAX_SIZE)
        if not self.sizes:
            raise ValueError("sizes must hold at least one size")
        if self.bandwidth is not None:
            check_range(self, "bandwidth", low=0, open_low=True)
        if self.mesh.tensor > 1 or self.mesh.fully_sharded:
            raise ValueError("draws are shared over mesh.data: mesh.tensor and mesh.fully_sharded have no use here")


def build_bank(config: BuildBankConfig, *, progress: Callable[[BankProgress], None] | None = None) -> LatentBank:
    """Fills a bank, resuming one that is found.

    Args:
        config: The bank.
        progress: Called with the counts after every round, in the first process.

    Returns:
        The bank.

    Raises:
        BankError: If the folder holds another bank, or no shape at all is valid.
        FolderInUseError: If another run fills the same bank.
        OtherProcessError: In the other processes, if the first cannot write the bank.
        ValueError: If the folder of ``packed`` does not exist, or the devices cannot share a round of blocks.
    """
    mesh = _mesh(config)
    if config.packed is not None and not config.packed.parent.is_dir():
        raise ValueError(f"{config.packed.parent} is no folder; make it first, or choose another --packed")
    shapes = load_shapes(config.model, weights=config.weights)
    source = open_frames(config.data, "train", structures=CAMUS)
    codes = encode_all(shapes, stack_examples(source)["label"].astype(np.int32))
    bandwidth = "cv" if config.bandwidth is None else config.bandwidth

    def decode(codes):
        def label_maps(logits):  # only a byte a pixel is kept
            return [ops.resize_argmax(logits, height=size, width=size).astype(jnp.int8) for size in config.sizes]

        return shapes.map_logits(label_maps, codes)

    def is_valid(label_maps):
        return jnp.stack([anatomy.is_valid(masks) for masks in label_maps]).all(0)

    bank = densify(
        config.out,
        latent.fit_parzen(jnp.asarray(codes), bandwidth=bandwidth, key=jax.random.key(config.draws.seed)),
        decode=decode,
        is_valid=is_valid,
        config=config.draws,
        metadata={"model": config.model, "weights": _checksum(shapes.variables), "sizes": list(config.sizes)},
        mesh=mesh,
        progress=progress,
    )
    packed = config.packed
    if packed is not None:
        train.on_writer(lambda: zoo.save_weights(packed, {"codes": bank.codes}))
    return bank


def _mesh(config: BuildBankConfig) -> Mesh | None:
    """The devices that are asked for; of all in one process as many as can share the blocks of a round."""
    blocks, chosen = config.draws.blocks_per_round, config.mesh
    if chosen.data == 0 and jax.process_count() == 1:
        chosen = dataclasses.replace(chosen, data=math.gcd(jax.device_count(), blocks))
    mesh = train.make_mesh(chosen)
    if mesh is not None and blocks % mesh.size:
        raise ValueError(f"draws.blocks_per_round must be a multiple of the {mesh.size} devices, got {blocks}")
    return mesh


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
    return ops.map_batches(jax.jit(shapes.encode), masks, batch_size=batch_size)
