"""Where the time of the U-Net's train step goes: each kind of operation over all layers, ours beside PyTorch's.

Each operation runs alone at the shapes it has in the network, one layer after the other: the kinds add up to the step
but for what is gained by fusing them and lost between them.

Run: ``python -m benchmarks.networks.breakdown``
"""

import functools

import numpy as np

from benchmarks.harness import Section, compare, figures, main
from benchmarks.networks.unet import BATCH, SIZE

FEATURES = (16, 32, 64, 128, 256)
_SIDES = [SIZE >> depth for depth in range(len(FEATURES))]
_LEVELS = list(zip(_SIDES, FEATURES, strict=True))
#: Side, channels in, channels out.
CONVS = [
    *((s, c, f) for (s, f), above in zip(_LEVELS, (1, *FEATURES), strict=False) for c in (above, f)),
    *((s, c, f) for s, f in _LEVELS[:-1] for c in (2 * f, f)),
]
NORMS = [(s, f, f) for s, _, f in CONVS]
POOLS = [(s, f, f) for s, f in _LEVELS[:-1]]
UPS = [(s // 2, 2 * f, f) for s, f in _LEVELS[:-1]]
KINDS = {
    "3 x 3 convolutions, forward": CONVS,
    "3 x 3 convolutions, gradient of the input": CONVS[1:],
    "3 x 3 convolutions, gradient of the weights": CONVS,
    "instance norms with rectifiers, both ways": NORMS,
    "max pools, both ways": POOLS,
    "2 x 2 up-convolutions, both ways": UPS,
    "joins with the skips, both ways": POOLS,
    "loss, both ways": [(SIZE, 4, 4)],
    "Adam": [(0, 0, 0)],
}

#: How the names of those begin that have a compiled kernel.
WITH_KERNELS = ("3 x 3", "instance norms", "2 x 2")

NOTE = """
The compiled kernels ([their source](../cardiojax/ops/native/convolution.cc)) compute the deeper levels' convolutions at
170 to 210 GFLOP/s on these two cores, whose peak is about 220 (layer by layer, memory kept), and normalisation in two
passes over the maps each way. What is left of the step's time is memory, in the table as well: XLA allocates results
anew at each call, and the operating system clears their pages, 91,000 a step, in 50 ms of processor time an image.
`runtime.keep_freed_memory` avoids that.

XLA's weight gradient of the 3 x 3 convolutions is what costs most without the kernels, above all at full resolution,
where 16 channels meet 16. Other forms of it in JAX were no faster: on an Intel Xeon, in ms an image of one 256 x 256
layer from 16 to 16 channels, each within 1e-6 of the plain gradient:

- XLA's own gradient 8.0; a product over copies shifted along the width and the height 8.5 to 9.1
- the same product as a batch of 8 or 32 blocks of rows 13; in a scan over blocks of 16 or 32 rows, which stay in
  cache, 16; with the columns laid out channels first 11
- all nine taps beside each other 16; a product for each of three rows 13; nine products of contiguous slices of the
  padded pixels 14

The batch split over one virtual device a core was no faster either (175 to 209 ms a step and image against 184 to 187),
nor was bfloat16, for which XLA has no convolution on CPU.
"""


def _array(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _jax(kind: str, implementation: str = "xla"):
    import jax
    import jax.numpy as jnp
    import optax

    from cardiojax import losses, models, ops, runtime

    if implementation == "native":
        runtime.build_kernels()
    native = {"implementation": implementation}
    jit = functools.partial(jax.jit, compiler_options=ops.compiler_options())
    labels = jnp.asarray(np.random.default_rng(0).integers(0, 4, (BATCH, SIZE, SIZE)))

    def conv(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return ops.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers, **native)

    def layer(side, c_in, c_out):
        if kind == "Adam":
            params = models.UNet().init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]
            optimizer = optax.adam(1e-3)
            return jit(optimizer.update), (params, optimizer.init(params))
        x = jnp.asarray(_array(BATCH, side, side, c_in))
        small, kernel = jnp.ones(c_in), jnp.asarray(_array(3, 3, c_in, c_out))
        out = jnp.asarray(_array(BATCH, side, side, c_out))
        if kind.startswith("3 x 3"):
            along = {"forward": None, "input": 0, "weights": 1}[kind.split()[-1]]
            if along is None:
                return jit(conv), (x, kernel)
            pull = [lambda x, k, g: jax.vjp(lambda x: conv(x, k), x)[1](g)]
            pull.append(lambda x, k, g: jax.vjp(lambda k: conv(x, k), k)[1](g))
            return jit(pull[along]), (x, kernel, out)
        function, arguments = {
            "instance": (lambda x, s, b: ops.instance_norm(x, s, b, 1e-5, 0.01, **native), (x, small, small)),
            "max": (ops.max_pool, (x,)),
            "2": (
                lambda x, kernel: ops.conv_transpose_2x2(x, kernel, **native),
                (x, jnp.asarray(_array(2, 2, c_in, c_out))),
            ),
            "joins": (lambda x, y: jnp.concatenate([x, y], -1), (x, x)),
            "loss,": (lambda x: losses.cross_entropy_loss(x, labels) + losses.dice_loss(x, labels), (x,)),
        }[kind.split()[0]]
        out = jnp.ones(jax.eval_shape(function, *arguments).shape)

        def both(out, *arguments):
            value, pull = jax.vjp(function, *arguments)
            return value, pull(out)

        return jit(both), (out, *arguments)

    layers = [layer(*shape) for shape in KINDS[kind]]
    return lambda: [jax.block_until_ready(call(*arguments)) for call, arguments in layers]


def _torch(kind: str):
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(2)
    target = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (BATCH, SIZE, SIZE)))
    one_hot = F.one_hot(target, 4).permute(0, 3, 1, 2).float()

    def loss(logits):
        probs = logits.softmax(1)
        dice = (2 * (probs * one_hot).sum((2, 3)) + 1e-5) / ((probs + one_hot).sum((2, 3)) + 1e-5)
        return F.cross_entropy(logits, target) + 1 - dice[:, 1:].mean()

    def layer(side, c_in, c_out):
        if kind == "Adam":
            parameters = [torch.zeros(3, 3, a, b, requires_grad=True) for _, a, b in CONVS]
            parameters += [torch.zeros(b, requires_grad=True) for _, _, b in CONVS for _ in range(2)]
            parameters += [torch.zeros(2, 2, a, b, requires_grad=True) for _, a, b in UPS]
            for parameter in parameters:
                parameter.grad = torch.ones_like(parameter)
            return torch.optim.Adam(parameters, 1e-3).step
        x = torch.from_numpy(_array(BATCH, c_in, side, side))
        if kind.startswith("3 x 3"):
            kernel, out = (
                torch.from_numpy(_array(c_out, c_in, 3, 3)),
                torch.from_numpy(_array(BATCH, c_out, side, side)),
            )
            which = kind.split()[-1]
            if which == "forward":
                return lambda: F.conv2d(x, kernel, padding=1)
            mask = [which == "input", which == "weights", False]
            options = (None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, mask)
            return lambda: torch.ops.aten.convolution_backward(out, x, kernel, *options)
        small = torch.ones(c_in, requires_grad=True)
        kernel = torch.from_numpy(_array(c_in, c_out, 2, 2)).requires_grad_()
        x.requires_grad_()
        function, inputs = {
            "instance": (lambda: F.leaky_relu(F.instance_norm(x, weight=small, bias=small), 0.01), (x, small)),
            "max": (lambda: F.max_pool2d(x, 2), (x,)),
            "2": (lambda: F.conv_transpose2d(x, kernel, stride=2), (x, kernel)),
            "joins": (lambda: torch.cat([x, 1.0 * x], 1), (x,)),
            "loss,": (lambda: loss(x), (x,)),
        }[kind.split()[0]]
        out = torch.ones_like(function())
        return lambda: torch.autograd.grad(function(), inputs, out)

    layers = [layer(*shape) for shape in KINDS[kind]]

    def call():
        for one in layers:
            one()

    return call


def _kinds(kinds: tuple[str, ...], rounds: int = 4) -> Section:
    lines = ["| ms an image, batch 4 | compiled kernels | XLA | PyTorch, eager |", "|---|---|---|---|"]
    data = {}
    for kind in kinds:
        contenders = {"cardiojax": functools.partial(_jax, kind), "PyTorch": functools.partial(_torch, kind)}
        if kind.startswith(WITH_KERNELS):
            contenders["kernels"] = functools.partial(_jax, kind, "native")
        timings = compare(contenders, rounds=rounds)
        cells = {name: f"{1e3 * timing.median / BATCH:.1f}" for name, timing in timings.items()}
        lines.append(f"| {kind} | {cells.get('kernels', '')} | {cells['cardiojax']} | {cells['PyTorch']} |")
        data[kind] = figures(timings)
    return Section(title="Where the U-Net's train step goes", text="\n".join(lines), data=data)


PARTS = {
    "convolutions": functools.partial(_kinds, tuple(KINDS)[:3]),
    "the rest": functools.partial(_kinds, tuple(KINDS)[3:]),
}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
