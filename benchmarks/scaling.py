"""Cost against batch and resolution, and what sharding over virtual devices costs.

Run: ``python -m benchmarks.scaling``
"""

import functools
import os

from benchmarks.harness import Section, compare, figures


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
    from jax.sharding import NamedSharding, PartitionSpec

    from cardiojax import losses, models

    model = models.UNet()
    params = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]
    mesh = jax.make_mesh((devices,), ("data",))
    split, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
    images = jax.device_put(jax.random.uniform(jax.random.key(1), (8, 128, 128, 1)), split)
    labels = jax.device_put(jnp.ones((8, 128, 128), jnp.int32), split)
    params = jax.device_put(params, whole)

    @functools.partial(jax.jit, out_shardings=whole)
    def gradient(params, images, labels):
        def loss(p):
            return losses.cross_entropy_loss(model.apply({"params": p}, images).logits, labels).mean()

        return jax.grad(loss)(params)

    return lambda: jax.block_until_ready(gradient(params, images, labels))


def run(rounds: int = 5) -> Section:
    """Times all."""
    cases = [(1, 256), (2, 256), (4, 256), (8, 256), (4, 128), (4, 512)]
    timings = compare({f"{b} x {s} x {s}": functools.partial(forward, b, s) for b, s in cases}, rounds=rounds)
    lines = ["| forward pass | ms | ns a pixel |", "|---|---|---|"]
    for (batch, size), t in zip(cases, timings.values(), strict=True):
        lines.append(f"| {t.name} | {1e3 * t.median:.0f} | {1e9 * t.median / (batch * size * size):.0f} |")
    sharded = {}
    for devices in (1, 2, 4, 8):
        sharded.update(compare({f"{devices} devices": functools.partial(sharded_gradient, devices)}, rounds=rounds))
    base = sharded["1 devices"].median
    lines += ["", "| gradient, batch 8 split over virtual CPU devices | ms | against one |", "|---|---|---|"]
    lines += [f"| {t.name} | {1e3 * t.median:.0f} | {t.median / base:.2f} |" for t in sharded.values()]
    lines.append("\nThe virtual devices share the same cores: 1.00 is what no overhead looks like.")
    data = {"forward": figures(timings), "sharded": figures(sharded)}
    return Section(title="Scaling", text="\n".join(lines), data=data)


if __name__ == "__main__":
    print(run().text)
