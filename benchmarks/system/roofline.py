"""How much of the machine the headline workloads use, and what the same arithmetic predicts for an H100.

Run: ``python -m benchmarks.system.roofline``
"""

import functools

from benchmarks.harness import Section, compare, figures, main
from benchmarks.networks.unet import BATCH, ours

#: NVIDIA H100 SXM: dense bfloat16 FLOP/s and memory bytes/s from its data sheet.
H100 = (989e12, 3.35e12)
_SIDE = 2048
_COPY = 2**26


def product():
    """A square matrix product."""
    import jax

    a = jax.random.normal(jax.random.key(0), (_SIDE, _SIDE))
    call = jax.jit(lambda a: a @ a)
    return lambda: call(a).block_until_ready()


def copy():
    """Reading and writing 256 MiB each."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones(_COPY)
    call = jax.jit(lambda x: x + 1, donate_argnums=0)
    state = [x]

    def run():
        state[0] = call(state[0]).block_until_ready()

    return run


def _cost(mode: str) -> tuple[float, float]:
    """Floating-point operations and bytes that XLA counts for a workload."""
    import jax
    import jax.numpy as jnp

    from cardiojax import losses, models

    model = models.UNet()
    images = jax.ShapeDtypeStruct((BATCH, 256, 256, 1), jnp.float32)
    labels = jax.ShapeDtypeStruct((BATCH, 256, 256), jnp.int32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]

    def forward(p, x, _):
        return model.apply({"params": p}, x).logits

    def gradient(p, x, y):
        return jax.grad(
            lambda p: (losses.cross_entropy_loss(forward(p, x, y), y) + losses.dice_loss(forward(p, x, y), y)).mean()
        )(p)

    function = forward if mode == "forward" else gradient
    analysis = jax.jit(function).lower(params, images, labels).compile().cost_analysis()
    return analysis["flops"], analysis["bytes accessed"]


def run(rounds: int = 5) -> Section:
    """Measures the peaks and the workloads."""
    peaks = compare({"product": product, "copy": copy}, rounds=rounds)
    flops_peak = 2 * _SIDE**3 / peaks["product"].low
    bytes_peak = 2 * 4 * _COPY / peaks["copy"].low
    lines = [
        f"Measured peaks: {flops_peak / 1e9:.0f} GFLOP/s (product of two {_SIDE} x {_SIDE} matrices, float32), "
        f"{bytes_peak / 1e9:.1f} GB/s (copy).\n",
        "| workload, batch 4 at 256 x 256 | GFLOP | GB by XLA's count | ms measured | ms at the peaks | share |"
        " one H100, bfloat16, at best ms (arithmetic, not measured) |",
        "|---|---|---|---|---|---|---|",
    ]
    data = {"peaks": figures(peaks)}
    for mode in ("forward", "train step"):
        flops, moved = _cost(mode)
        timing = compare({mode: functools.partial(ours, mode)}, rounds=rounds)[mode]
        bound = max(flops / flops_peak, moved / bytes_peak)
        predicted = max(flops / H100[0], moved / 2 / H100[1])
        lines.append(
            f"| {mode} | {flops / 1e9:.1f} | {moved / 1e9:.2f} | {1e3 * timing.median:.0f} | {1e3 * bound:.0f} | "
            f"{bound / timing.median:.0%} | {1e3 * predicted:.2f} |"
        )
        data[mode] = {"flops": flops, "bytes": moved, "median": timing.median, "bound": bound}
    lines.append(
        "\nThe bound is the larger of operations over the product's rate and bytes over the copy's rate. XLA counts the"
        " bytes of each fused kernel; what stays in cache between kernels makes the true traffic smaller."
    )
    return Section(title="Roofline", text="\n".join(lines), data=data)


PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
