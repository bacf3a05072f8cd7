"""The input pipeline against the appetite of the train step, and checkpoints.

Run: ``python -m benchmarks.system.data``
"""

import shutil
import tempfile

import numpy as np

from benchmarks.harness import Section, compare, figures, main

BATCH = 8


def loader():
    """A batch of eight 224 x 224 frames with masks, shuffled."""
    from cardiojax.data.arrays import ArraySource
    from cardiojax.data.loader import LoaderConfig, make_loader

    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 4, (512, 224, 224), np.uint8) for name in ("image", "label")}
    batches = make_loader(ArraySource(arrays), LoaderConfig(batch_size=BATCH))
    return lambda: next(batches)


def augmentation():
    """The same batch augmented on device."""
    import jax
    import jax.numpy as jnp

    from cardiojax.data.augment import augment

    keys = jax.random.split(jax.random.key(0), BATCH)
    images = jax.random.uniform(jax.random.key(1), (BATCH, 224, 224))
    labels = jnp.ones((BATCH, 224, 224), jnp.int32)
    call = jax.jit(jax.vmap(augment))
    return lambda: jax.block_until_ready(call(keys, images, labels))


def train_step():
    """A whole step on such a batch, augmentation included."""
    import jax
    import jax.numpy as jnp

    from cardiojax import losses, models, train
    from cardiojax.data.augment import augment

    model = models.UNet()
    optimizer = train.make_optimizer(train.OptimizerConfig(), 1000)
    params = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]
    batch = train.Batch(np.full((BATCH, 224, 224), 90, np.uint8), np.ones((BATCH, 224, 224), np.uint8))

    def loss(key, params, batch, *, step):
        return train.augmented_loss(
            key,
            params,
            batch,
            apply=lambda p, x, key: model.apply({"params": p}, x).logits,
            loss=lambda a, b: losses.cross_entropy_loss(a, b) + losses.dice_loss(a, b),
            augment=augment,
        )

    step = train.make_step(jax.random.key(0), loss, optimizer=optimizer)
    state = [train.init_state(params, optimizer)]

    def call():
        state[0] = jax.block_until_ready(step(state[0], batch)[0])

    return call


def _store():
    import jax
    import jax.numpy as jnp
    import optax

    from cardiojax import models, train

    params = models.UNet().init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]
    state = train.init_state(params, optax.adam(1e-3))
    folder = tempfile.mkdtemp()
    return train.CheckpointStore(folder), state, folder


def checkpoint_save():
    """Parameters, two moments and the moving average: 31 MB."""
    store, state, _ = _store()
    steps = iter(range(1, 10_000))
    return lambda: store.save(next(steps), state, metadata={}, score=0.0)


def checkpoint_restore():
    """The same, read back and verified."""
    import jax

    store, state, folder = _store()
    store.save(1, state, metadata={})
    abstract = jax.eval_shape(lambda: state)

    def call():
        if store.restore(abstract) is None:
            shutil.rmtree(folder)
            raise RuntimeError("nothing restored")

    return call


def run(rounds: int = 9) -> Section:
    """Times each."""
    timings = compare(
        {
            "Grain, a batch of 8": loader,
            "augmentation of a batch": augmentation,
            "train step on a batch": train_step,
            "checkpoint, save": checkpoint_save,
            "checkpoint, restore and verify": checkpoint_restore,
        },
        rounds=rounds,
    )
    lines = ["| | ms (median) |", "|---|---|"]
    lines += [f"| {t.name} | {t.note or f'{1e3 * t.median:.3g}'} |" for t in timings.values()]
    step = timings["train step on a batch"].median
    loading, augmenting = (100 * timings[n].median / step for n in ("Grain, a batch of 8", "augmentation of a batch"))
    lines.append(
        f"\nLoading arrays from memory takes {loading:.2g} % of the time of a step and augmentation {augmenting:.2g} %;"
        " for files of videos see [scale](../docs/results/scale.md#data-rates)."
    )
    return Section(title="Input pipeline and checkpoints", text="\n".join(lines), data={"timings": figures(timings)})


PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
