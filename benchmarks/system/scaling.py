"""Cost against batch and resolution, and what sharding over virtual devices costs.

Run: ``python -m benchmarks.system.scaling``
"""

import functools
import os

from benchmarks.harness import Section, compare, figures, main

TITLE = "Scaling"


def forward(batch: int, size: int):
    """Inference."""
    import jax
    import jax.numpy as jnp

    from cardiojax import models

    model = models.UNet()
    params = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]
    images = jax.random.uniform(jax.random.key(1), (batch, size, size, 1))
    call = jax.jit(lambda p, x: model.apply({"params": p}, x).logits)
    return lambda: call(params, images).block_until_ready()


def sharded_gradient(devices: int):
    """The gradient of the loss over a batch of 8, the batch split over devices."""
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    import jax
    import jax.numpy as jnp
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    from cardiojax import losses, models, ops

    model = models.UNet()
    params = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
    split, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
    images = jax.device_put(jax.random.uniform(jax.random.key(1), (8, 128, 128, 1)), split)
    labels = jax.device_put(jnp.ones((8, 128, 128), jnp.int32), split)
    params = jax.device_put(params, whole)

    @functools.partial(jax.jit, out_shardings=whole, compiler_options=ops.compiler_options())
    def gradient(params, images, labels):
        def loss(p):
            return losses.cross_entropy_loss(model.apply({"params": p}, images).logits, labels).mean()

        return jax.grad(loss)(params)

    return lambda: jax.block_until_ready(gradient(params, images, labels))


def batches(rounds: int = 3) -> Section:
    """Times inference over batches and resolutions."""
    cases = [(1, 256), (4, 256), (8, 256), (4, 128), (4, 512)]
    timings = compare({f"{b} x {s} x {s}": functools.partial(forward, b, s) for b, s in cases}, rounds=rounds)
    lines = ["| forward pass | ms | ns a pixel |", "|---|---|---|"]
    for (batch, size), t in zip(cases, timings.values(), strict=True):
        lines.append(f"| {t.name} | {1e3 * t.median:.0f} | {1e9 * t.median / (batch * size * size):.0f} |")
    return Section(title=TITLE, text="\n".join(lines), data={"timings": figures(timings)})


def devices(rounds: int = 3) -> Section:
    """Times the gradient over virtual devices."""
    contenders = {f"{n} device{'s' if n > 1 else ''}": functools.partial(sharded_gradient, n) for n in (1, 2, 4)}
    timings = compare(contenders, rounds=rounds)
    base = timings["1 device"].median
    lines = ["| gradient, 8 images of 128 x 128 split over virtual CPU devices | ms | against one |", "|---|---|---|"]
    lines += [f"| {t.name} | {1e3 * t.median:.0f} | {t.median / base:.2f} |" for t in timings.values()]
    lines.append("\nThe virtual devices share the same cores: 1.00 is what no overhead looks like.")
    return Section(title=TITLE, text="\n".join(lines), data={"timings": figures(timings)})


PARTS = {"batches": batches, "devices": devices}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
