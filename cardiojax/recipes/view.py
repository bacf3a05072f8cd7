"""``cardiojax train view``: the classifier of apical views on CAMUS frames, simulated loops and counterexamples."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from cardiojax import losses, models, ops, train, zoo
from cardiojax.data.arrays import ArraySource, source_checksum, stack_examples
from cardiojax.data.augment import AugmentConfig, augment
from cardiojax.data.datasets import open_frames
from cardiojax.data.loader import MappedBatches
from cardiojax.data.other_views import other_view
from cardiojax.data.phantom import VENDORS, PhantomSet, build_phantom, open_phantom
from cardiojax.data.shapes import resize_masks
from cardiojax.labels import CAMUS, VIEWS
from cardiojax.recipes.run import RunConfig, RunResult, initializer, run, training_batches, zoo_model
from cardiojax.validation import check_range

_OTHER = VIEWS.index("other")
#: Images a call of the network outside of training.
_EVAL_BATCH = 64
#: Augmented copies of each known image to which the distance is fitted.
_NUM_COPIES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainViewConfig(RunConfig):
    """A classifier of apical views.

    Attributes:
        data: Folder with ``camus224_train.npz``, or that of ``cardiojax data build camus``. Its validation patients are
            not used.
        phantom: Folder of simulated loops, which are made if they are not there; none are used if not given.
        num_phantoms: Simulated patients of each scanner.
        batch_size: Images a step.
        held_out: Share of the training patients on which the best step and the largest known distance are chosen.
        others: Share of a batch that is turned into counterexamples.
        known: Share of the augmented images of the held-out patients whose distance counts as known.
        smoothing: Label smoothing.
        model: Sizes of the network.
        optimizer: Rates.
        loop: Length and intervals.
        augmentation: Ranges of the augmentation.
    """

    data: Path
    phantom: Path | None = None
    num_phantoms: int = 60
    batch_size: int = 32
    held_out: float = 0.2
    others: float = 0.5
    known: float = 0.99
    smoothing: float = 0.05
    model: models.ViewClassifierConfig = models.ViewClassifierConfig()
    optimizer: train.OptimizerConfig = train.OptimizerConfig(learning_rate=1e-3)
    loop: train.LoopConfig = train.LoopConfig(num_steps=1500, eval_every=250)
    augmentation: AugmentConfig = AugmentConfig()

    def __post_init__(self):
        super().__post_init__()
        check_range(self, "num_phantoms", low=2)
        check_range(self, "held_out", "known", low=0, high=1, open_low=True)
        check_range(self, "others", "smoothing", low=0, high=1)


class ViewFrames(NamedTuple):
    """Apical views: images in 0 to 255 and label maps, uint8 ``[n, h, w]``, and the view, int32 ``[n]``."""

    images: np.ndarray
    labels: np.ndarray
    views: np.ndarray


def train_view(config: TrainViewConfig, **options: Any) -> RunResult:
    """Trains a view classifier, resuming if the folder holds a run, and writes the best weights.

    The score is the mean of the accuracy on the held-out training patients and the share of their counterexamples that
    are refused. The distance of the features is fitted to the training patients, and its unit to the held-out ones.

    Args:
        config: The run.
        **options: ``reporter`` and ``should_stop`` of `run`.

    Returns:
        The best parameters and the last state.

    Raises:
        Exception: What `run` raises.
    """
    size, model = config.model.size, models.ViewClassifier(config.model)
    known, held_out = _split_frames(config)
    source = ArraySource({"image": known.images, "label": known.labels, "view": known.views})
    loader = training_batches(source, config)
    name, overrides = zoo_model(config.model, models.VIEW_CLASSIFIER_PRESETS)

    def save(path: Path, params: PyTree) -> None:
        zoo.save(path, name, fit_distance(model, params, known, held_out, config=config), **overrides)

    return run(
        train.Task(
            init=initializer(model, (1, size, size, 1)),
            loss=_make_loss(model, config),
            evaluate=_make_evaluate(model, held_out, config),
        ),
        MappedBatches(loader, lambda batch: ViewFrames(batch["image"], batch["label"], batch["view"])),
        config=config,
        optimizer=train.make_optimizer(config.optimizer, config.loop.num_steps),
        save=save,
        data_checksum=source_checksum(source),
        compiler_options=ops.compiler_options(),
        **options,
    )


def _split_frames(config: TrainViewConfig) -> tuple[ViewFrames, ViewFrames]:
    """The frames of the training patients and of the held-out ones, simulated patients among both."""
    known, held_out = _camus_frames(config)
    if config.phantom is None:
        return known, held_out
    for vendor in VENDORS:
        loops = PhantomSet(vendor=vendor, num_patients=config.num_phantoms, num_frames=5, seed=config.seed)
        build_phantom(config.phantom, loops)
        known = _join(known, _phantom_frames(config, loops, "train"))
        held_out = _join(held_out, _phantom_frames(config, loops, "validation"))
    return known, held_out


def _camus_frames(config: TrainViewConfig) -> tuple[ViewFrames, ViewFrames]:
    examples = stack_examples(open_frames(config.data, "train", structures=CAMUS))
    views = np.array([VIEWS.index(view) for view in examples["view"]], np.int32)
    frames = _at_size(examples["image"], examples["label"], views, size=config.model.size)
    names = np.random.default_rng(config.seed).permutation(np.unique(examples["patient"]))
    is_held_out = np.isin(examples["patient"], names[: max(1, round(config.held_out * len(names)))])
    known, held_out = (ViewFrames(*(a[rows] for a in frames)) for rows in (~is_held_out, is_held_out))
    return known, held_out


def _phantom_frames(config: TrainViewConfig, loops: PhantomSet, split: str) -> ViewFrames:
    """End-diastole and a frame of systole of each simulated loop."""
    assert config.phantom is not None
    examples = stack_examples(open_phantom(config.phantom, split, loops))
    images, labels = (np.concatenate(examples[name][:, :2]) for name in ("image", "label"))
    views = np.repeat([VIEWS.index(view) for view in examples["view"]], 2).astype(np.int32)
    return _at_size(images, labels, views, size=config.model.size)


def _at_size(images: np.ndarray, labels: np.ndarray, views: np.ndarray, *, size: int) -> ViewFrames:
    @jax.jit
    def resize(image, mask):
        grey = jax.image.resize(image.astype(jnp.float32), (size, size), "linear")
        return jnp.rint(grey).astype(jnp.uint8), resize_masks(mask.astype(jnp.int32), size).argmax(-1).astype(jnp.uint8)

    resized = ops.map_batches(jax.vmap(resize), images, labels, batch_size=_EVAL_BATCH)
    return ViewFrames(np.asarray(resized[0]), np.asarray(resized[1]), views)


def _join(*parts: ViewFrames) -> ViewFrames:
    return ViewFrames(*map(np.concatenate, zip(*parts, strict=True)))


def _make_loss(model: models.ViewClassifier, config: TrainViewConfig) -> train.LossFn:
    change = functools.partial(augment, config=config.augmentation)

    def loss(key, params, batch, *, step):
        other_key, augment_key, dropout_key = jax.random.split(key, 3)
        num = len(batch.views)
        num_others = round(config.others * num)
        images, labels = batch.images.astype(jnp.float32) / 255, batch.labels.astype(jnp.int32)
        keys = jax.random.split(other_key, num_others)
        others = jax.vmap(other_view)(keys, images[:num_others], labels[:num_others])
        images = jnp.concatenate([others, images[num_others:]])
        images = jax.vmap(change)(jax.random.split(augment_key, num), images, labels).image
        images = jax.vmap(_stretch)(images)
        output: Any = model.apply({"params": params}, images[..., None], train=True, rngs={"dropout": dropout_key})
        target = jnp.where(jnp.arange(num) < num_others, _OTHER, batch.views)
        smooth = (1 - config.smoothing) * jax.nn.one_hot(target, len(VIEWS)) + config.smoothing / len(VIEWS)
        return losses.cross_entropy_loss(output.logits[:, None, None], smooth[:, None, None])

    return loss


def _stretch(image: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Stretches an image to [0, 1], as `models.preprocess` does."""
    low, high = image.min(), image.max()
    return (image - low) / jnp.maximum(high - low, 1e-6)


def _make_evaluate(
    model: models.ViewClassifier, held_out: ViewFrames, config: TrainViewConfig
) -> Callable[[PyTree], dict[str, float]]:
    change = functools.partial(augment, config=config.augmentation)

    @jax.jit
    def classify(params, numbers, images, labels):
        def prepared(number, image, mask):
            other_key, augment_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), number))
            image, mask = image.astype(jnp.float32) / 255, mask.astype(jnp.int32)
            return jnp.stack([image, change(augment_key, image, mask).image, other_view(other_key, image, mask)])

        inputs = jax.vmap(jax.vmap(_stretch))(jax.vmap(prepared)(numbers, images, labels))
        output: Any = model.apply({"params": params}, inputs[..., None])
        return output.logits.argmax(-1)

    def evaluate(params) -> dict[str, float]:
        numbers = np.arange(len(held_out.views))
        classes = ops.map_batches(
            functools.partial(classify, params), numbers, held_out.images, held_out.labels, batch_size=_EVAL_BATCH
        )
        plain, augmented, others = np.asarray(classes).T
        scores = {
            "accuracy": float(np.mean(plain == held_out.views)),
            "accuracy_augmented": float(np.mean(augmented == held_out.views)),
            "refused": float(np.mean(others == _OTHER)),
        }
        return {"score": (scores["accuracy"] + scores["refused"]) / 2, **scores}

    return evaluate


def fit_distance(
    model: models.ViewClassifier,
    params: PyTree,
    known: ViewFrames,
    held_out: ViewFrames,
    *,
    config: TrainViewConfig,
) -> PyTree:
    """Fits the class means and the whitening of the features to augmented images.

    The covariance is that within the classes, of the training patients. Its unit is the distance that the share
    ``config.known`` of the augmented images of held-out patients do not exceed.

    Args:
        model: The network.
        params: Its parameters.
        known: Frames of the training patients.
        held_out: Frames of the held-out patients.
        config: The run.

    Returns:
        The parameters with ``means`` and ``whitening``.

    References:
        Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
        NeurIPS 2018, equations 1 and 2.
    """
    features, views = _features(model, params, known, config)
    means = np.stack([features[views == view].mean(0) for view in range(_OTHER)])
    offsets = features - means[views]
    covariance = offsets.T @ offsets / len(offsets)
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors / np.sqrt(np.maximum(values, 1e-4 * values.max()))
    features, _ = _features(model, params, held_out, config)
    distances = np.linalg.norm((features[:, None] - means) @ whitening, axis=-1).min(1)
    unit = np.quantile(distances, config.known)
    return {**params, "means": jnp.asarray(means), "whitening": jnp.asarray(whitening / unit)}


def _features(
    model: models.ViewClassifier, params: PyTree, frames: ViewFrames, config: TrainViewConfig
) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]:
    """Feature vectors of the frames and of augmented copies, and their views."""
    change = functools.partial(augment, config=config.augmentation)

    @jax.jit
    def extract(numbers, images, labels):
        def prepared(number, image, mask):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), number), _NUM_COPIES)
            image = image.astype(jnp.float32) / 255
            copies = jax.vmap(lambda key: change(key, image, mask.astype(jnp.int32)).image)(keys)
            return jnp.concatenate([image[None], copies])

        inputs = jax.vmap(jax.vmap(_stretch))(jax.vmap(prepared)(numbers, images, labels))
        output: Any = model.apply({"params": params}, inputs[..., None])
        return output.features

    numbers = np.arange(len(frames.views))
    features = ops.map_batches(extract, numbers, frames.images, frames.labels, batch_size=_EVAL_BATCH)
    return np.asarray(features).reshape(-1, features.shape[-1]), np.repeat(frames.views, _NUM_COPIES + 1)
