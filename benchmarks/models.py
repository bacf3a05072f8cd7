"""Forward pass and train step of the zoo's networks: ours beside PyTorch's own modules.

The vision transformer is built of ``torch.nn.TransformerEncoderLayer``, nnU-Net and SAM are the originals' own code
where it is installed (the extra ``parity``); a contender that cannot run says so.

Run: ``python -m benchmarks.models``
"""

import functools
from collections.abc import Callable

import numpy as np

from benchmarks.harness import Section, compare, figures, ratio_to_best, table

#: Name and batch.
CASES = {"vit_b16": (1, 224, 224, 3), "nnunet_2d": (1, 256, 256, 1), "sam_b": (1, 1024, 1024, 3)}


def _images(name: str) -> np.ndarray:
    return np.random.default_rng(0).normal(size=CASES[name]).astype(np.float32)


def ours(name: str, mode: str) -> Callable[[], object]:
    """A model of the zoo with random parameters."""
    import jax
    import jax.numpy as jnp
    import optax

    from cardiojax import zoo

    model = zoo.create(name)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.02, jnp.float32), zoo.abstract_variables(name)
    )
    images = jnp.asarray(_images(name))
    if name == "sam_b":
        apply = jax.jit(lambda p, x: model.apply(p, x, method="embed"))
    else:
        apply = jax.jit(lambda p, x: model.apply(p, x).logits)
    if mode == "forward":
        return lambda: apply(params, images).block_until_ready()
    optimizer = optax.sgd(1e-4, momentum=0.9)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state):
        p, o = state
        grads = jax.grad(lambda p: jnp.square(apply(p, images)).mean())(p)
        updates, o = optimizer.update(grads, o)
        return optax.apply_updates(p, updates), o

    state = [(params, optimizer.init(params))]

    def call():
        state[0] = jax.block_until_ready(step(state[0]))

    return call


def pytorch(name: str, mode: str, variant: str) -> Callable[[], object]:
    """The same network in PyTorch."""
    import torch

    torch.set_num_threads(2)
    model = {"vit_b16": _torch_vit, "nnunet_2d": _torch_nnunet, "sam_b": _torch_sam}[name]()
    x = torch.from_numpy(_images(name)).permute(0, 3, 1, 2).contiguous()
    if variant == "channels-last":
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    network = torch.compile(model) if variant == "compile" else model
    if mode == "forward":
        model.eval()

        def forward():
            with torch.inference_mode():
                network(x)

        return forward
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9)

    def step():
        optimizer.zero_grad(set_to_none=True)
        network(x).square().mean().backward()
        optimizer.step()

    return step


def _torch_vit():
    import torch
    from torch import nn

    class ViT(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 768, 16, 16)
            self.token = nn.Parameter(torch.zeros(1, 1, 768))
            self.positions = nn.Parameter(torch.zeros(1, 197, 768))
            layer = nn.TransformerEncoderLayer(
                768, 12, 3072, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
            )
            norm = nn.LayerNorm(768, eps=1e-6)
            self.blocks = nn.TransformerEncoder(layer, 12, norm=norm, enable_nested_tensor=False)
            self.head = nn.Linear(768, 1000)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
            return self.head(self.blocks(x)[:, 0])

    model = ViT()
    assert sum(p.numel() for p in model.parameters()) == 86_567_656
    return model


def _torch_nnunet():
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    from cardiojax import models

    plan = models.NNUNET_PRESETS["nnunet_2d"]
    return PlainConvUNet(
        input_channels=1,
        n_stages=len(plan.features),
        features_per_stage=plan.features,
        conv_op=torch.nn.Conv2d,
        kernel_sizes=plan.kernels,
        strides=plan.strides,
        n_conv_per_stage=plan.blocks,
        num_classes=4,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )


def _torch_sam():
    from segment_anything import sam_model_registry

    return sam_model_registry["vit_b"]().image_encoder


def run(rounds: int = 5) -> Section:
    """Times the forward pass of each network, and the train step of those that are trained here."""
    parts, data = [], {}
    for name, shape in CASES.items():
        for mode in ("forward",) if name == "sam_b" else ("forward", "train step"):
            variants = ("eager",) if name != "nnunet_2d" else ("eager", "channels-last")
            contenders = {"cardiojax": functools.partial(ours, name, mode)}
            contenders |= {f"PyTorch {v}": functools.partial(pytorch, name, mode, v) for v in variants}
            timings = compare(contenders, rounds=2 if name == "sam_b" else rounds)
            ratio = ratio_to_best(timings)
            title = f"{name}, {mode}, {' x '.join(map(str, shape))}"
            parts.append(f"{title}:\n\n{table(list(timings.values()), unit_name='image')}\n")
            parts.append(f"Ours over the best PyTorch: **{ratio:.2f}**\n")
            data[f"{name} {mode}"] = {"ratio": ratio, "timings": figures(timings)}
    return Section(title="Networks of the zoo, one image, float32", text="\n".join(parts), data=data)


if __name__ == "__main__":
    print(run().text)
