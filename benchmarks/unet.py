"""U-Net train step and inference: ours beside a plain PyTorch U-Net of the same 1.94 M parameters.

Run: ``python -m benchmarks.unet``
"""

import functools

import numpy as np

from benchmarks.harness import Section, compare, figures, ratio_to_best, table

SIZE, BATCH = 256, 4


def _arrays():
    rng = np.random.default_rng(0)
    return rng.random((BATCH, SIZE, SIZE, 1), np.float32), rng.integers(0, 4, (BATCH, SIZE, SIZE))


def ours(mode: str):
    """Our U-Net."""
    import jax
    import jax.numpy as jnp
    import optax

    from cardiojax import losses, models

    images, labels = (jnp.asarray(a) for a in _arrays())
    model = models.UNet()
    params = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]
    if mode == "forward":
        forward = jax.jit(lambda p, x: model.apply({"params": p}, x).logits)
        return lambda: forward(params, images).block_until_ready()
    optimizer = optax.adam(1e-3)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state):
        def loss(p):
            logits = model.apply({"params": p}, images).logits
            return (losses.cross_entropy_loss(logits, labels) + losses.dice_loss(logits, labels)).mean()

        p, o = state
        updates, o = optimizer.update(jax.grad(loss)(p), o)
        return optax.apply_updates(p, updates), o

    state = [(params, optimizer.init(params))]

    def call():
        state[0] = jax.block_until_ready(step(state[0]))

    return call


def pytorch(mode: str, variant: str):
    """The same network as PyTorch users write it."""
    import torch
    from torch import nn

    torch.set_num_threads(2)

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
    x, y = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)
    model = UNet()
    assert sum(p.numel() for p in model.parameters()) == 1_942_340
    if variant == "channels-last":
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    network = torch.compile(model) if variant == "compile" else model
    if mode == "forward":
        model.eval()

        def forward():
            with torch.inference_mode():
                network(x)

        return forward
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    one_hot = torch.nn.functional.one_hot(y, 4).permute(0, 3, 1, 2).float()

    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = network(x)
        probs = logits.softmax(1)
        dice = (2 * (probs * one_hot).sum((2, 3)) + 1e-5) / ((probs + one_hot).sum((2, 3)) + 1e-5)
        (torch.nn.functional.cross_entropy(logits, y) + 1 - dice[:, 1:].mean()).backward()
        optimizer.step()

    return step


def run(rounds: int = 9) -> Section:
    """Times the train step and the forward pass."""
    parts, data = [], {}
    for mode in ("train step", "forward"):
        contenders = {"cardiojax": functools.partial(ours, mode)}
        for variant in ("eager", "channels-last", "compile"):
            contenders[f"PyTorch {variant}"] = functools.partial(pytorch, mode, variant)
        timings = compare(contenders, rounds=rounds)
        ratio = ratio_to_best(timings)
        parts.append(f"{mode.capitalize()}:\n\n{table(list(timings.values()), unit=BATCH, unit_name='image')}\n")
        parts.append(f"Ours over the best PyTorch: **{ratio:.2f}**\n")
        data[mode] = {"ratio": ratio, "timings": figures(timings)}
    title = f"U-Net of 1.94 M parameters, {SIZE} x {SIZE}, batch {BATCH}, float32"
    return Section(title=title, text="\n".join(parts), data=data)


if __name__ == "__main__":
    print(run().text)
