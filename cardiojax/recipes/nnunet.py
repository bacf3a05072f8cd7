"""``cardiojax train nnunet``: nnU-Net's network, loss and augmentation on CAMUS arrays."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

from cardiojax import losses, models, train
from cardiojax.data.augment import AugmentConfig
from cardiojax.recipes.run import RunConfig, RunResult
from cardiojax.recipes.segmentation import region_loss, train_segmenter


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainNNUNetConfig(RunConfig):
    """An nnU-Net on annotated frames.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``, or that of ``cardiojax data build``.
        datasets: Built datasets in it, which are merged by the names of their structures; the only one if not given.
        init: Weight file to start from, of a run at any resolution; random if not given.
        size: Height and width of the square grid on which it trains; small first and large later (``init``) saves most
            of the time.
        batch_size: Images a step.
        implementation: As of ``cardiojax train unet``.
        preset: A key of `cardiojax.models.NNUNET_PRESETS` in two dimensions.
        plan: File that `cardiojax.models.Plan.save` wrote, instead of the preset.
        optimizer: ``"sgd"`` as nnU-Net, or ``"adamw"``, which scores higher after a few thousand steps.
        sgd: Rates of the one.
        adamw: Rates of the other.
        augmentation: nnU-Net's ranges, without the mirroring and the turns by 180 degrees that make another anatomy
            of an apical view, and with this library's attenuation, speckle and narrower sectors.
    """

    data: Path
    datasets: tuple[str, ...] = ()
    init: Path | None = None
    size: int = 224
    batch_size: int = 8
    implementation: Literal["xla", "native"] = "xla"
    preset: str = "nnunet_small_2d"
    plan: Path | None = None
    optimizer: Literal["sgd", "adamw"] = "adamw"
    sgd: train.NNUNetOptimizerConfig = train.NNUNetOptimizerConfig()
    adamw: train.OptimizerConfig = train.OptimizerConfig()
    augmentation: AugmentConfig = AugmentConfig(
        rotation=15,
        scale=(0.7, 1.4),
        gamma=(0.7, 1.5),
        contrast=(0.75, 1.25),
        blur=1.0,
        noise=0.06,
        sector=0.1,
        probability=0.5,
    )


def train_nnunet(config: TrainNNUNetConfig, **options: Any) -> RunResult:
    """Trains an nnU-Net with deep supervision, resuming if the folder holds a run, and writes the best weights.

    Args:
        config: The run.
        **options: ``reporter`` and ``should_stop`` of `run`.

    Returns:
        The best parameters and the last state.

    Raises:
        ValueError: If the plan is not one in two dimensions, or there is no such preset.
        Exception: What `run` raises.

    References:
        Isensee et al., "nnU-Net", Nature Methods 2021.
    """
    if config.plan is None and config.preset not in models.NNUNET_PRESETS:
        raise ValueError(f"preset must be one of {', '.join(models.NNUNET_PRESETS)}, got {config.preset!r}")
    plan = models.NNUNET_PRESETS[config.preset] if config.plan is None else models.Plan.load(config.plan)
    if len(plan.spacing) != 2:
        raise ValueError(f"expected a plan in two dimensions, got one in {len(plan.spacing)}")

    def loss(output, target, **absent):
        region = functools.partial(region_loss, **absent)
        return losses.deep_supervision_loss(region, [output.logits, *output.deep_logits], target)

    num_steps = config.loop.num_steps
    if config.optimizer == "sgd":
        optimizer = train.make_nnunet_optimizer(config.sgd, num_steps)
    else:
        optimizer = train.make_optimizer(config.adamw, num_steps)
    presets = models.NNUNET_PRESETS
    return train_segmenter(config, models.NNUNet, plan, presets, optimizer=optimizer, loss=loss, **options)
