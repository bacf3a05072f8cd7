"""Each building block of the U-Net, forward and backward: as we write it, as XLA lowers the plain form, and PyTorch.

Run: ``python -m benchmarks.networks.blocks``
"""

import functools

import numpy as np

from benchmarks.harness import Section, compare, figures, main

BATCH = 4
#: Block, height and width, channels in, channels out.
CASES = (
    ("max pool", 256, 16, 16),
    ("up-convolution", 64, 64, 32),
    ("instance norm", 256, 16, 16),
    ("cross-entropy", 256, 4, 4),
    ("3x3 convolution", 256, 16, 16),
    ("3x3 convolution", 128, 32, 32),
    ("3x3 convolution", 64, 64, 64),
    ("3x3 convolution", 32, 128, 128),
)


def _array(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _jax(block: str, size: int, c_in: int, c_out: int, ours: bool):
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax
    from jax import lax

    from cardiojax import losses, ops

    x = jnp.asarray(_array(BATCH, size, size, c_in))
    labels = jnp.asarray(np.random.default_rng(1).integers(0, 4, (BATCH, size, size)))
    scale = jnp.ones(c_in)
    kernel = jnp.asarray(_array(3, 3, c_in, c_out) if "3x3" in block else _array(2, 2, c_in, c_out))

    def plain_norm(x, scale):
        mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
        return (x - mean) * lax.rsqrt(variance + 1e-5) * scale

    functions = {
        ("max pool", True): lambda x, _: ops.max_pool(x),
        ("max pool", False): lambda x, _: nn.max_pool(x, window_shape=(2, 2), strides=(2, 2)),
        ("up-convolution", True): lambda x, k: ops.conv_transpose_2x2(x, k),
        ("up-convolution", False): lambda x, k: lax.conv_transpose(x, k, (2, 2), "VALID"),
        ("instance norm", True): lambda x, s: ops.instance_norm(x, s, s),
        ("instance norm", False): plain_norm,
        ("cross-entropy", True): lambda x, _: losses.cross_entropy_loss(x, labels),
        ("cross-entropy", False): lambda x, _: optax.softmax_cross_entropy_with_integer_labels(x, labels).mean((1, 2)),
    }
    convolution = functools.partial(
        lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    functions |= {("3x3 convolution", True): convolution, ("3x3 convolution", False): convolution}
    function = functions[block, ours]
    second = scale if block == "instance norm" else kernel
    options = ops.compiler_options() if ours else {}  # those of the package are what it has for a convolution
    step = jax.jit(jax.grad(lambda x, p: (function(x, p) ** 2).sum(), (0, 1)), compiler_options=options)
    return lambda: jax.block_until_ready(step(x, second))


def _torch(block: str, size: int, c_in: int, c_out: int):
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(2)
    x = torch.from_numpy(_array(BATCH, c_in, size, size)).requires_grad_()
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 4, (BATCH, size, size)))
    shapes = {
        "up-convolution": (c_in, c_out, 2, 2),
        "instance norm": (c_in,),
        "3x3 convolution": (c_out, c_in, 3, 3),
    }
    parameter = torch.from_numpy(_array(*shapes.get(block, (1,)))).requires_grad_()
    function = {
        "max pool": lambda: F.max_pool2d(x, 2),
        "up-convolution": lambda: F.conv_transpose2d(x, parameter, stride=2),
        "instance norm": lambda: F.instance_norm(x, weight=parameter, bias=parameter),
        "cross-entropy": lambda: F.cross_entropy(x, labels, reduction="none").mean((1, 2)),
        "3x3 convolution": lambda: F.conv2d(x, parameter, padding=1),
    }[block]

    def call():
        x.grad = parameter.grad = None
        (function() ** 2).sum().backward()

    return call


def run(rounds: int = 7) -> Section:
    """Times every block."""
    lines = ["| block, forward and backward | ours, ms | plain XLA, ms | PyTorch, ms |", "|---|---|---|---|"]
    data = {}
    for case in CASES:
        block, size, c_in, c_out = case
        contenders = {
            "cardiojax": functools.partial(_jax, *case, True),
            "XLA": functools.partial(_jax, *case, False),
            "PyTorch": functools.partial(_torch, *case),
        }
        timings = compare(contenders, rounds=rounds)
        name = f"{block}, {BATCH} x {size} x {size}, {c_in} to {c_out} channels"
        cells = [f"{1e3 * timings[n].median:.1f}" if n in timings else "" for n in ("cardiojax", "XLA", "PyTorch")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        data[name] = figures(timings)
    return Section(title="Building blocks", text="\n".join(lines), data=data)


PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
