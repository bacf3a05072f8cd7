"""End-diastole and end-systole of each beat, segmented together by a network that sees both frames."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from cardiojax import ops, uncertainty, zoo
from cardiojax.analysis.segmentation import Devices, Segment, compile_network
from cardiojax.labels import NUM_CLASSES
from cardiojax.measurement.volumes import Measurements
from cardiojax.models.preprocess import segmentation_logits

#: The pair network that goes with a frame network of the zoo.
_PAIR_MODELS = {"unet_camus": "unet_pair_camus", "unet_pair_camus": "unet_pair_camus"}
#: Frames that a pair network sees.
_NUM_FRAMES = 2


def choose_pair_model(model: str, pair_model: str = "auto") -> str | None:
    """Chooses the network that segments both phases together.

    Args:
        model: Name or weight file of the network that segments single frames.
        pair_model: Name or weight file of the pair network; ``"none"``; or ``"auto"``: ``unet_pair_camus`` beside
            ``unet_camus``, the model itself if it takes two frames, else none.

    Returns:
        Name or file; None for no such network.

    Example:
        >>> choose_pair_model("unet_camus"), choose_pair_model("nnunet_camus"), choose_pair_model("unet_camus", "none")
        ('unet_pair_camus', None, None)
    """
    if pair_model != "auto":
        return None if pair_model == "none" else pair_model
    if model in _PAIR_MODELS:
        return _PAIR_MODELS[model]
    return model if _num_frames(zoo.load(model)[0]) == _NUM_FRAMES else None


def load_pair_network(name: str) -> tuple[Any, PyTree]:
    """Loads a network that sees two frames.

    Args:
        name: Its name in the zoo, or a weight file that says which model it is for.

    Returns:
        The network and its variables.

    Raises:
        ValueError: If the network does not take two frames.

    Example:
        >>> load_pair_network("unet_pair_camus")[0].config.frames
        2
    """
    network: Any
    network, variables = zoo.load(name)
    if _num_frames(network) != _NUM_FRAMES:
        raise ValueError(f"{name} sees {_num_frames(network)} frame, expected a network of two such as unet_pair_camus")
    return network, variables


def make_pair_segment(
    name: str,
    *,
    size: int = 224,
    batch_size: int = 1,
    test_time_augmentation: bool = False,
    devices: Devices | None = None,
) -> Segment:
    """Loads a network that sees two frames and begins to compile it for a batch of pairs.

    Args:
        name: Its name in the zoo, or a weight file that says which model it is for.
        size: Side of the square grid on which it works.
        batch_size: Pairs a call and device.
        test_time_augmentation: Whether probabilities are averaged over `cardiojax.uncertainty.AUGMENTATIONS`.
        devices: Devices that share the pairs; one if not given.

    Returns:
        The segmentation of images ``[2 n, size, size, 1]``, of which every two in a row are the phases of one beat.

    Raises:
        ValueError: If the network does not take two frames.
    """
    network, variables = load_pair_network(name)
    augmentations = uncertainty.AUGMENTATIONS if test_time_augmentation else (uncertainty.Augmentation(),)

    def probabilities(variables: PyTree, frames: Float[Array, "n s s 1"]) -> Float[Array, "n s s k"]:
        others = frames.reshape(-1, _NUM_FRAMES, *frames.shape[1:])[:, ::-1].reshape(frames.shape)
        both = jnp.concatenate([frames, others], -1)  # the frame to segment first, the other of its pair beside it

        def apply(images):
            return jax.nn.softmax(
                segmentation_logits(network.apply(variables, images), images, name=name, num_classes=NUM_CLASSES)
            )

        return uncertainty.average_over_augmentations(both, apply, augmentations=augmentations)

    num = _NUM_FRAMES * batch_size * (1 if devices is None else devices.mesh.shape["data"])
    compiled = compile_network(probabilities, variables, (num, size, size, 1), devices=devices)
    return functools.partial(ops.map_batches, compiled, batch_size=num, is_fixed=True)


def frames_of_beats(measurements: Measurements) -> Int[np.ndarray, " n"]:
    """End-diastole and end-systole of each beat in turn; those of the loop if it holds no beat.

    Args:
        measurements: Those of a loop that has phases.
    """
    if not len(measurements.beats.end_diastole):
        return np.array([measurements.end_diastole, measurements.end_systole])
    return np.stack([measurements.beats.end_diastole, measurements.beats.end_systole], -1).reshape(-1)


def with_frames(arrays: Any, frames: Int[np.ndarray, " n"], others: Any) -> Any:
    """Replaces the values of some frames.

    Args:
        arrays: A tree of arrays ``[t, ...]``.
        frames: The frames.
        others: The same tree of arrays ``[n, ...]``, or of numbers.

    Returns:
        The tree, copied.

    Example:
        >>> with_frames(np.arange(4), np.array([1, 2]), 0).tolist()
        [0, 0, 0, 3]
    """

    def replace(array: np.ndarray, values: Any) -> np.ndarray:
        replaced = array.copy()
        replaced[frames] = values
        return replaced

    return jax.tree.map(replace, arrays, others)


def _num_frames(model: Any) -> int:
    return getattr(getattr(model, "config", None), "frames", 1)
