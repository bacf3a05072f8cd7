"""Maps a second by each method of uncertainty, and CRISP beside a plain PyTorch version of the same sizes.

The U-Net is that of the zoo, the images have 224 x 224 pixels, the bank 1,600 shapes of which 50 are compared. Weights
are random: the arithmetic does not depend on them.

Run: ``python -m benchmarks.methods.uncertainty``
"""

import functools

import numpy as np

from benchmarks.harness import Section, compare, figures, main

BATCH = 4
SIZE = 224
NUM_SHAPES = 1600
NUM_SAMPLES = 50
METHODS = ("entropy", "edge", "MC dropout, 10 passes", "augmentation, 8 copies", "ensemble of 5", "CRISP")


def _inputs():
    rng = np.random.default_rng(0)
    images = rng.random((BATCH, SIZE, SIZE, 1), np.float32)
    codes = rng.standard_normal((NUM_SHAPES, 8), np.float32) + 1
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    masks = rng.integers(0, 4, (NUM_SHAPES, SIZE, SIZE), np.uint8)
    return images, rng.standard_normal((BATCH, SIZE, SIZE, 4), np.float32), codes, masks


def _jax(name: str):
    import jax
    import jax.numpy as jnp

    from cardiojax import models, uncertainty

    images, logits, codes, masks = (jnp.asarray(x) for x in _inputs())
    net = models.UNet(models.UNetConfig(dropout=0.2))
    variables = net.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    bank = uncertainty.ShapeBank(codes, masks)
    config = models.CRISPConfig()
    crisp = models.CRISP(config)
    crisp_variables = crisp.init(jax.random.key(0), jnp.zeros((1, config.size, config.size, 1)))

    def apply(images):
        return net.apply(variables, images).logits

    def dropout(key, images):
        return net.apply(variables, images, train=True, rngs={"dropout": key}).logits

    def match(images, logits):
        small = jax.image.resize(images, (BATCH, config.size, config.size, 1), "linear", antialias=False)
        image_codes = crisp.apply(crisp_variables, small, method="encode_image")
        return uncertainty.crisp(
            images, logits.argmax(-1).astype(jnp.int32), image_codes, bank, num_samples=NUM_SAMPLES
        )

    key = jax.random.key(0)
    call = jax.jit(
        {
            "entropy": lambda x, z: uncertainty.softmax_entropy(x, jax.nn.softmax(z)),
            "edge": lambda x, z: uncertainty.edge(x, z.argmax(-1).astype(jnp.int32)),
            "MC dropout, 10 passes": lambda x, z: uncertainty.mc_dropout(key, x, dropout, num_passes=10),
            "augmentation, 8 copies": lambda x, z: uncertainty.tta(key, x, apply, num_samples=8),
            "ensemble of 5": lambda x, z: uncertainty.deep_ensemble(
                x, lambda v, x: net.apply(v, x).logits, uncertainty.stack_members([variables] * 5)
            ),
            "CRISP": match,
        }[name]
    )
    return lambda: jax.block_until_ready(call(images, logits))


def _torch():
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(2)
    images, logits, codes, masks = (torch.from_numpy(x) for x in _inputs())
    images, logits = images.movedim(-1, 1).contiguous(), logits.movedim(-1, 1).contiguous()
    layers, channels = [], 1
    for features in (16, 32, 64, 128):
        for stride in (2, 1):
            layers += [
                nn.Conv2d(channels, features, 3, stride, 1, bias=False),
                nn.GroupNorm(8, features),
                nn.LeakyReLU(),
            ]
            channels = features
    layers += [nn.Conv2d(128, 32, 3, 2, 1, bias=False), nn.GroupNorm(8, 32), nn.LeakyReLU()]
    encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 64), nn.Linear(64, 8)).eval()
    length = codes.mean(0).norm()
    concentration = length * (8 - length**2) / (1 - length**2)
    bandwidth = concentration**-0.5 * (40 * np.pi**0.5 * NUM_SHAPES) ** -0.2

    def call():
        with torch.inference_mode():
            small = F.interpolate(images, size=(128, 128), mode="bilinear", align_corners=False)
            similar, indices = (F.normalize(encoder(small)) @ codes.T).topk(NUM_SAMPLES)
            weights = ((similar - 1) / bandwidth).exp()
            maps = []
            for label, index, weight in zip(logits.argmax(1), indices, weights, strict=True):
                predicted = F.one_hot(label, 4)[..., 1:].bool()
                others = F.one_hot(masks[index].long(), 4)[..., 1:].bool()
                wrong = (predicted ^ others).float()
                values = (weight[:, None, None, None] * wrong).mean(0).sum(-1)
                maps.append(values / values.max())
            return torch.stack(maps)

    return call


def run(rounds: int = 7) -> Section:
    """Times every method."""
    lines = ["| method | maps/s | ms a map | peak MiB |", "|---|---|---|---|"]
    data = {}
    for name in METHODS:
        contenders = {"cardiojax": functools.partial(_jax, name)}
        if name == "CRISP":
            contenders["PyTorch"] = _torch
        timings = compare(contenders, rounds=rounds)
        for contender, t in timings.items():
            title = name if contender == "cardiojax" else f"{name}, {contender}"
            figure = t.note or f"{BATCH / t.median:.1f} | {1e3 * t.median / BATCH:.1f} | {t.peak_mib:.0f}"
            lines.append(f"| {title} | {figure} |")
        data[name] = figures(timings)
    return Section(title="Uncertainty", text="\n".join(lines), data=data)


PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
