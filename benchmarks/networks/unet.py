"""U-Net train step and inference: ours beside a plain PyTorch U-Net of the same 1.94 M parameters.

Run: ``python -m benchmarks.networks.unet``
"""

import functools

import numpy as np

from benchmarks.harness import Section, compare, figures, main, ratio_to_best, table
from benchmarks.networks.steps import jax_call, memory_kept, torch_call
from benchmarks.networks.torch_unet import torch_unet

SIZE, BATCH = 256, 4


def _arrays():
    rng = np.random.default_rng(0)
    return rng.random((BATCH, SIZE, SIZE, 1), np.float32), rng.integers(0, 4, (BATCH, SIZE, SIZE))


def ours(mode: str, options: dict[str, str] | None = None, implementation: str = "xla"):
    """Our U-Net."""
    import jax
    import jax.numpy as jnp
    import optax

    from cardiojax import losses, models, runtime

    if implementation == "native":
        runtime.build_kernels()
    images, labels = (jnp.asarray(a) for a in _arrays())
    model = models.UNet(implementation=implementation)
    params = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]

    def loss(logits):
        return (losses.cross_entropy_loss(logits, labels) + losses.dice_loss(logits, labels)).mean()

    def apply(params, images):
        return model.apply({"params": params}, images).logits

    return jax_call(mode, apply, params, images, loss=loss, optimizer=optax.adam(1e-3), options=options)


def pytorch(mode: str, variant: str):
    """The same network as PyTorch users write it."""
    import torch

    images, labels = _arrays()
    y = torch.from_numpy(labels)
    model = torch_unet(1, 4, (16, 32, 64, 128, 256))
    assert sum(p.numel() for p in model.parameters()) == 1_942_340
    one_hot = torch.nn.functional.one_hot(y, 4).permute(0, 3, 1, 2).float()

    def loss(logits):
        probs = logits.softmax(1)
        dice = (2 * (probs * one_hot).sum((2, 3)) + 1e-5) / ((probs + one_hot).sum((2, 3)) + 1e-5)
        return torch.nn.functional.cross_entropy(logits, y) + 1 - dice[:, 1:].mean()

    return torch_call(mode, variant, model, images, loss=loss, optimizer=functools.partial(torch.optim.Adam, lr=1e-3))


def _paired(mode: str, rounds: int = 7) -> Section:
    native = functools.partial(ours, mode, implementation="native")
    contenders = {"cardiojax, compiled kernels, memory kept": functools.partial(memory_kept, native)}
    contenders |= {"cardiojax, compiled kernels": native, "cardiojax": functools.partial(ours, mode)}
    if mode == "train step":
        contenders["cardiojax, XLA's own options"] = functools.partial(ours, mode, {})
    for variant in ("eager", "channels-last", "compile"):
        contenders[f"PyTorch {variant}"] = functools.partial(pytorch, mode, variant)
    contenders["PyTorch compile, memory kept"] = functools.partial(memory_kept, contenders["PyTorch compile"])
    timings = compare(contenders, rounds=rounds)
    first = next(iter(contenders))
    compared = {name: t for name, t in timings.items() if name == first or "PyTorch" in name}
    text = f"{mode.capitalize()}:\n\n{table(list(timings.values()), unit=BATCH, unit_name='image')}"
    title = f"U-Net of 1.94 M parameters, {SIZE} x {SIZE}, batch {BATCH}, float32"
    return Section(title=title, text=text, ratio=ratio_to_best(compared, first), data={"timings": figures(timings)})


PARTS = {mode: functools.partial(_paired, mode) for mode in ("train step", "forward")}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
