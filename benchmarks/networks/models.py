"""Forward pass and train step of the zoo's networks: ours beside PyTorch's own modules.

The vision transformer is built of ``torch.nn.TransformerEncoderLayer``, nnU-Net and SAM are the originals' own code
where it is installed (the extra ``parity``); a contender that cannot run says so.

Run: ``python -m benchmarks.networks.models``
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Section, compare, figures, main, ratio_to_best, table
from benchmarks.networks.steps import jax_call, memory_kept, torch_call
from benchmarks.networks.torch_unet import torch_unet

#: Name and shape of an image.
IMAGES = {"unet": (256, 256, 1), "vit_b16": (224, 224, 3), "nnunet_2d": (256, 256, 1), "sam_b": (1024, 1024, 3)}
#: Those that are measured on a CPU; the U-Net has a script of its own.
CASES = ("vit_b16", "nnunet_2d", "sam_b")


def _images(name: str, batch: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(batch, *IMAGES[name])).astype(np.float32)


def network(name: str, dtype: str, implementation: str = "xla") -> Callable[[Any, Any], Any]:
    """Variables and images to logits; of a Segment Anything model to the features of the images."""
    from cardiojax import runtime, zoo

    model = zoo.create(name, dtype=dtype)
    if implementation == "native":
        runtime.build_kernels()
        model = model.clone(implementation=implementation)
    if name == "sam_b":
        return functools.partial(model.apply, method="embed")
    return lambda params, images: model.apply(params, images).logits


def ours(
    name: str,
    mode: str,
    options: dict[str, str] | None = None,
    *,
    batch: int = 1,
    dtype: str = "float32",
    implementation: str = "xla",
) -> Callable[[], object]:
    """A model of the zoo with random parameters."""
    import jax
    import jax.numpy as jnp
    import optax

    from cardiojax import zoo

    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.02, jnp.float32), zoo.abstract_variables(name)
    )
    images = jnp.asarray(_images(name, batch))

    return jax_call(
        mode,
        network(name, dtype, implementation),
        params,
        images,
        loss=lambda y: jnp.square(y).mean(),
        optimizer=optax.sgd(1e-4, momentum=0.9),
        options=options,
    )


def pytorch(name: str, mode: str, variant: str, *, batch: int = 1, **options: str) -> Callable[[], object]:
    """The same network in PyTorch; options of `torch_call`."""
    import torch

    make = {"unet": _torch_unet, "vit_b16": _torch_vit, "nnunet_2d": _torch_nnunet, "sam_b": _torch_sam}[name]
    optimizer = functools.partial(torch.optim.SGD, lr=1e-4, momentum=0.9)
    images = _images(name, batch)
    return torch_call(mode, variant, make(), images, loss=lambda y: y.square().mean(), optimizer=optimizer, **options)


def _torch_unet():
    return torch_unet(1, 4, (16, 32, 64, 128, 256))


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


def _paired(name: str, mode: str) -> Section:
    variants = ("eager", "compile") if name != "nnunet_2d" else ("eager", "channels-last", "compile")
    plain = functools.partial(ours, name, mode)
    best = functools.partial(plain, implementation="native") if name == "nnunet_2d" else plain
    first = "cardiojax, compiled kernels, memory kept" if name == "nnunet_2d" else "cardiojax, memory kept"
    contenders = {first: functools.partial(memory_kept, best), "cardiojax": plain}
    if mode == "train step":
        contenders["cardiojax, XLA's own options"] = functools.partial(ours, name, mode, {})
    contenders |= {f"PyTorch {v}": functools.partial(pytorch, name, mode, v) for v in variants}
    contenders["PyTorch compile, memory kept"] = functools.partial(memory_kept, contenders["PyTorch compile"])
    timings = compare(contenders, rounds=2 if name == "sam_b" else 5)
    compared = {name: t for name, t in timings.items() if name == first or "PyTorch" in name}
    title = f"{name}, {mode}, 1 x {' x '.join(map(str, IMAGES[name]))}"
    text = f"{title}:\n\n{table(list(timings.values()), unit_name='image')}"
    title = "Networks of the zoo, one image, float32"
    return Section(title=title, text=text, ratio=ratio_to_best(compared, first), data={"timings": figures(timings)})


PARTS = {
    f"{name} {mode}": functools.partial(_paired, name, mode)
    for name in CASES
    for mode in (("forward",) if name == "sam_b" else ("forward", "train step"))
}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
