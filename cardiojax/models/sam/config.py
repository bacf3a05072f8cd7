"""Sizes of the Segment Anything family."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyViTConfig:
    """Sizes of LiteMedSAM's image encoder, one value a stage.

    Attributes:
        widths: Channels.
        depths: Blocks.
        num_heads: Heads of the attention; the first stage has none.
        windows: Sides of its windows; the first stage has none.
    """

    widths: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (2, 4, 5, 10)
    windows: tuple[int, ...] = (7, 7, 14, 7)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SAMConfig:
    """Sizes of a SAM, and what its images are prepared like.

    Attributes:
        num_axes: 2 for images, 3 for volumes (SAM-Med3D).
        channels: Channels of the input.
        image_size: Side of the square or cubic input, pixels.
        patch_size: Side of a patch, pixels a feature.
        tiny_vit: Sizes of the image encoder of LiteMedSAM, which then stands in for the vision transformer.
        unit_range: Whether images are stretched to [0, 1], as in MedSAM and LiteMedSAM; else normalised by the mean and
            the deviation of ImageNet.
        keep_aspect: Whether images keep their aspect and are padded; else both sides are resized.
        width: Size of a token of the image encoder.
        depth: Its blocks.
        num_heads: Its heads.
        global_blocks: Numbers of its blocks that attend to the whole image; the others see windows.
        window: Side of a window, patches.
        adapters: Whether each block of attention has an adapter (SAM-Med2D).
        prompt_dim: Size of a token of the decoder, and of an image feature.
        attention_rows: Rows (or slices) of patches whose attention to the whole image is held at a time; all if None.
        remat: Whether the backward pass recomputes the insides of an encoder block.
        dtype: Type of the computation; parameters and logits are float32.
    """

    num_axes: int = 2
    channels: int = 3
    image_size: int = 1024
    patch_size: int = 16
    tiny_vit: TinyViTConfig | None = None
    unit_range: bool = False
    keep_aspect: bool = True
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    window: int = 14
    adapters: bool = False
    prompt_dim: int = 256
    attention_rows: int | None = 8
    remat: bool = False
    dtype: str = "float32"

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size


SAM_PRESETS: dict[str, SAMConfig] = {
    "sam_b": SAMConfig(),
    "sam_l": SAMConfig(width=1024, depth=24, num_heads=16, global_blocks=(5, 11, 17, 23)),
    "sam_h": SAMConfig(width=1280, depth=32, num_heads=16, global_blocks=(7, 15, 23, 31)),
    "medsam": SAMConfig(unit_range=True, keep_aspect=False),
    "lite_medsam": SAMConfig(image_size=256, patch_size=4, tiny_vit=TinyViTConfig(), unit_range=True),
    "sam_med2d": SAMConfig(image_size=256, adapters=True),
    "sam_med3d": SAMConfig(num_axes=3, channels=1, image_size=128, prompt_dim=384),
}
