"""U-Net train step and inference: ours beside a plain PyTorch U-Net of the same 1.94 M parameters.

Run: ``python -m benchmarks.networks.unet``
"""

import functools

import numpy as np

from benchmarks.harness import Section, compare, figures, main, ratio_to_best, table
from benchmarks.networks.steps import jax_call, torch_call

SIZE, BATCH = 256, 4


def _arrays():
    rng = np.random.default_rng(0)
    return rng.random((BATCH, SIZE, SIZE, 1), np.float32), rng.integers(0, 4, (BATCH, SIZE, SIZE))


def ours(mode: str, options: dict[str, str] | None = None):
    """Our U-Net."""
    import jax
    import jax.numpy as jnp
    import optax

    from cardiojax import losses, models

    images, labels = (jnp.asarray(a) for a in _arrays())
    model = models.UNet()
    params = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]

    def loss(logits):
        return (losses.cross_entropy_loss(logits, labels) + losses.dice_loss(logits, labels)).mean()

    def apply(params, images):
        return model.apply({"params": params}, images).logits

    return jax_call(mode, apply, params, images, loss=loss, optimizer=optax.adam(1e-3), options=options)


def pytorch(mode: str, variant: str):
    """The same network as PyTorch users write it."""
    import torch
    from torch import nn

    def block(c_in, c_out):
        layers = []
        for c in (c_in, c_out):
            layers += [nn.Conv2d(c, c_out, 3, padding=1, bias=False), nn.InstanceNorm2d(c_out, affine=True)]
            layers += [nn.LeakyReLU(0.01)]
        return nn.Sequential(*layers)

    class UNet(nn.Module):
        def __init__(self, features=(16, 32, 64, 128, 256)):
            super().__init__()
            self.down = nn.ModuleList(block(a, b) for a, b in zip((1, *features), features, strict=False))
            self.up = nn.ModuleList(nn.ConvTranspose2d(2 * f, f, 2, 2) for f in features[:-1])
            self.merge = nn.ModuleList(block(2 * f, f) for f in features[:-1])
            self.head = nn.Conv2d(features[0], 4, 1)

        def forward(self, x):
            skips = []
            for i, level in enumerate(self.down):
                x = level(x if i == 0 else nn.functional.max_pool2d(x, 2))
                skips.append(x)
            for i in reversed(range(len(self.up))):
                x = self.merge[i](torch.cat([self.up[i](x), skips[i]], 1))
            return self.head(x)

    images, labels = _arrays()
    y = torch.from_numpy(labels)
    model = UNet()
    assert sum(p.numel() for p in model.parameters()) == 1_942_340
    one_hot = torch.nn.functional.one_hot(y, 4).permute(0, 3, 1, 2).float()

    def loss(logits):
        probs = logits.softmax(1)
        dice = (2 * (probs * one_hot).sum((2, 3)) + 1e-5) / ((probs + one_hot).sum((2, 3)) + 1e-5)
        return torch.nn.functional.cross_entropy(logits, y) + 1 - dice[:, 1:].mean()

    return torch_call(mode, variant, model, images, loss=loss, optimizer=functools.partial(torch.optim.Adam, lr=1e-3))


def _paired(mode: str, rounds: int = 7) -> Section:
    contenders = {"cardiojax": functools.partial(ours, mode)}
    contenders["cardiojax, XLA's own options"] = functools.partial(ours, mode, {})
    for variant in ("eager", "channels-last", "compile"):
        contenders[f"PyTorch {variant}"] = functools.partial(pytorch, mode, variant)
    timings = compare(contenders, rounds=rounds)
    compared = {name: t for name, t in timings.items() if name == "cardiojax" or "PyTorch" in name}
    text = f"{mode.capitalize()}:\n\n{table(list(timings.values()), unit=BATCH, unit_name='image')}"
    title = f"U-Net of 1.94 M parameters, {SIZE} x {SIZE}, batch {BATCH}, float32"
    return Section(title=title, text=text, ratio=ratio_to_best(compared), data={"timings": figures(timings)})


PARTS = {mode: functools.partial(_paired, mode) for mode in ("train step", "forward")}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
