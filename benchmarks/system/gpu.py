"""The headline workloads on one GPU, in float32 and bfloat16, beside PyTorch, and whether they give what a CPU gives.

The parts in turn take about ten minutes on one H200; each keeps its results as soon as it is done. Networks have random
parameters. In float32 both libraries may multiply in TF32. A PyTorch that is not installed or has no GPU says so in its
row; of the methods, PyTorch has the density and the neighbours.

Run: ``python -m benchmarks.system.gpu``
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Section, compare, figures, main, ratio_text, ratio_to_best, table
from benchmarks.methods import anatomy as anatomy_benchmark
from benchmarks.methods import rejection_sampling
from benchmarks.networks import models

#: Images a batch.
BATCHES = {"unet": 32, "nnunet_2d": 32, "vit_b16": 64, "sam_b": 1}
#: NVIDIA H200: dense bfloat16 and TF32 FLOP/s, and memory bytes/s, from its data sheet.
PEAKS, BANDWIDTH = {"bfloat16": 989e12, "float32": 494e12}, 4.8e12
#: Codes of the bank in the search for neighbours, and draws.
_MANY = 5_000_000
_TITLE = "On one GPU"


def network(name: str, mode: str, dtype: str) -> Section:
    """Times one network in one precision."""
    batch = BATCHES[name]
    contenders: dict[str, Callable[[], Any]] = {
        "cardiojax": functools.partial(models.ours, name, mode, {}, batch=batch, dtype=dtype)
    }
    for variant in ("eager", "channels-last", "compile"):
        contenders[f"PyTorch {variant}"] = functools.partial(
            models.pytorch, name, mode, variant, batch=batch, device="cuda", dtype=dtype
        )
    timings = compare(contenders, rounds=9, threads=os.cpu_count() or 1)
    flops, moved = _cost(name, mode, dtype)
    bound = max(flops / PEAKS[dtype], moved / BANDWIDTH)
    share = bound / timings["cardiojax"].median
    text = f"{name}, {mode}, {batch} images of {' x '.join(map(str, models.IMAGES[name]))}, {dtype}:\n\n"
    text += table(list(timings.values()), unit=batch, unit_name="image")
    text += f"\n\n{ratio_text(ratio_to_best(timings))}; {share:.0%} of the least time by XLA's count of operations"
    text += f" ({flops / 1e12:.2f} TFLOP) and bytes ({moved / 1e9:.1f} GB) at the peaks of an H200."
    return Section(title=_TITLE, text=text, data={"timings": figures(timings), "flops": flops, "bytes": moved})


def _cost(name: str, mode: str, dtype: str) -> tuple[float, float]:
    """Operations and bytes that XLA counts."""
    import jax
    import jax.numpy as jnp

    from cardiojax import zoo

    apply, params = models.network(name, dtype), zoo.abstract_variables(name)
    images = jax.ShapeDtypeStruct((BATCHES[name], *models.IMAGES[name]), jnp.float32)

    def forward(params, images):
        return jnp.square(apply(params, images)).mean()

    function = forward if mode == "forward" else jax.grad(forward)
    analysis = jax.jit(function).lower(params, images).compile().cost_analysis()
    return analysis["flops"], analysis["bytes accessed"]


def criteria(size: int, num: int):
    """``is_valid`` of many masks."""
    import jax
    import jax.numpy as jnp

    from cardiojax import anatomy

    masks = jnp.asarray(anatomy_benchmark.masks(num, size))
    call = jax.jit(anatomy.is_valid)
    return lambda: call(masks).block_until_ready()


def nearest_torch(num_queries: int):
    """The nearest codes by distances and ``topk``, in blocks of queries."""
    import torch

    bank, queries = (
        torch.from_numpy(rejection_sampling.drawn(n, i)).cuda() for i, n in enumerate((_MANY, num_queries))
    )
    squares = bank.square().sum(-1)

    def call():
        for x in queries.split(64):
            torch.addmm(squares, x, bank.T, alpha=-2).topk(rejection_sampling.NEIGHBOURS, largest=False)
        torch.cuda.synchronize()

    return call


def methods() -> Section:
    """Criteria, draws, densities, neighbours, codes decoded and checked: how many a second."""
    contenders: dict[str, tuple[Callable[[], Any], int]] = {
        "masks of 256 x 256 checked": (functools.partial(criteria, 256, 8192), 8192),
        "masks of 512 x 512 checked": (functools.partial(criteria, 512, 2048), 2048),
        "codes drawn, decoded to 224 x 224 and checked": (
            functools.partial(rejection_sampling.check_ours, 2000, "bank"),
            2000,
        ),
        "accepted draws, window widened by 1.05": (
            functools.partial(rejection_sampling.sample_ours, _MANY, "widened"),
            _MANY,
        ),
        "densities": (functools.partial(rejection_sampling.density_ours, _MANY), _MANY),
        "densities, PyTorch": (
            functools.partial(rejection_sampling.density_torch_matmul, _MANY, "cuda", 65_536),
            _MANY,
        ),
        "nearest neighbours in 5 million codes": (
            functools.partial(rejection_sampling.nearest_ours, "float32", _MANY, 1024),
            1024,
        ),
        "nearest neighbours, PyTorch": (functools.partial(nearest_torch, 1024), 1024),
    }
    timings = {}
    for name, (workload, _) in contenders.items():  # one after the other: together they may not fit
        timings |= compare({name: workload}, rounds=5, threads=os.cpu_count() or 1)
    lines = ["| | a second (median) | first call, s |", "|---|---|---|"]
    for (name, t), (_, num) in zip(timings.items(), contenders.values(), strict=True):
        lines.append(f"| {name} | {t.note or format(num / t.median, ',.4g')} | {t.first:.1f} |")
    return Section(title=_TITLE, text="\n".join(lines), data={"timings": figures(timings)})


def agreement(num: int = 64) -> Section:
    """What the default device gives, against the CPU, in float32 without TF32."""
    import jax
    import jax.numpy as jnp

    from cardiojax import anatomy, latent, metrics, models, zoo

    masks = anatomy_benchmark.masks(num, 224)
    density = latent.fit_parzen(jnp.asarray(rejection_sampling.real_codes()), bandwidth=rejection_sampling.WIDTH)
    points = rejection_sampling.drawn(num, 1)
    vae, vae_variables = zoo.load("cvae_camus")
    unet = models.UNet()
    rng = np.random.default_rng(0)
    images = rng.random((2, 64, 64, 1), np.float32)
    params = jax.tree.map(
        lambda leaf: (0.1 * rng.normal(size=leaf.shape)).astype(np.float32),
        jax.eval_shape(unet.init, jax.random.key(0), images),
    )
    wide = density.widened(1.05)
    computed: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "U-Net, logits": (lambda p, x: unet.apply(p, x).logits, (params, images)),
        "U-Net, gradient": (jax.grad(lambda p, x: jnp.square(unet.apply(p, x).logits).mean()), (params, images)),
        "12 criteria": (lambda m: anatomy.check(m).values, (masks,)),
        "validity": (anatomy.is_valid, (masks,)),
        "log density": (lambda p, x: p.log_prob(x), (density, points)),
        "accepted draws": (
            lambda p, q: latent.rejection_sample(jax.random.key(0), p, q, num, scale="max").values,
            (density, wide),
        ),
        "decoded logits": (lambda v, z: vae.apply(v, z, method="decode"), (vae_variables, points)),
        "neighbours": (lambda x, bank: latent.nearest(x, bank, 8).indices, (points, np.asarray(density.codes))),
        "Hausdorff distance": (lambda a, b: metrics.hausdorff(a == 1, b == 1, jnp.ones(2)), (masks, masks[::-1])),
    }
    lines = [
        "| | largest difference over the largest value | entries that differ |",
        "|---|---|---|",
    ]
    data = {}
    with jax.default_matmul_precision("highest"):
        for name, (function, arguments) in computed.items():
            here, there = (
                jax.device_get(jax.jit(function)(*jax.device_put(arguments, device)))
                for device in (jax.devices()[0], jax.devices("cpu")[0])
            )
            data[name] = difference(here, there)
            relative, count = data[name]["relative"], data[name]["different"]
            lines.append(
                f"| {name} | {'' if relative is None else f'{relative:.1e}'} | {'' if count is None else count} |"
            )
    return Section(title=_TITLE, text="\n".join(lines), data=data)


def difference(one: Any, other: Any) -> dict[str, Any]:
    """Of two trees of arrays.

    Returns:
        ``relative``: largest difference of floats over the largest value, infinite where one alone is finite or two
        infinities differ, None without floats; ``different``: integers and booleans that differ, None without any.
    """
    import jax

    pairs = list(zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    floats = [(a, b) for a, b in pairs if np.issubdtype(b.dtype, np.floating)]
    others = [(a, b) for a, b in pairs if not np.issubdtype(b.dtype, np.floating)]
    relative = None
    if floats:
        is_finite = [np.isfinite(a) & np.isfinite(b) for a, b in floats]
        largest = max(float(np.abs(b[ok]).max(initial=0)) for (_, b), ok in zip(floats, is_finite, strict=True))
        apart = max(float(np.abs(a[ok] - b[ok]).max(initial=0)) for (a, b), ok in zip(floats, is_finite, strict=True))
        relative = apart / (largest or 1.0)
        if not all(
            np.array_equal(a[~ok], b[~ok], equal_nan=True) for (a, b), ok in zip(floats, is_finite, strict=True)
        ):
            relative = float("inf")
    return {"relative": relative, "different": sum(int((a != b).sum()) for a, b in others) if others else None}


def on_gpu(part: Callable[[], Section]) -> Section:
    """Runs a part, or raises SystemExit where JAX sees no GPU: its figures would be those of a CPU."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # contenders share the memory of the device
    import jax

    if jax.default_backend() != "gpu":
        raise SystemExit("JAX sees no GPU")
    return part()


_PARTS: dict[str, Callable[[], Section]] = {"agreement": agreement, "methods": methods}
_PARTS |= {
    f"{name} {mode} {dtype}": functools.partial(network, name, mode, dtype)
    for name in BATCHES
    for mode in (("forward",) if name == "sam_b" else ("forward", "train step"))
    for dtype in ("float32", "bfloat16")
}
PARTS = {name: functools.partial(on_gpu, part) for name, part in _PARTS.items()}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
