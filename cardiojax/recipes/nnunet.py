"""``cardiojax train nnunet``: nnU-Net's network, loss and augmentation on CAMUS arrays."""

import dataclasses
from pathlib import Path
from typing import Literal

from cardiojax import losses, models, train
from cardiojax.data.augment import AugmentConfig
from cardiojax.recipes.segmentation import fit_segmenter, region_loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainNNUNetConfig:
    """An nnU-Net on CAMUS arrays.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``, or that of ``cardiojax data build camus``.
        out: The run's folder; a run found there is resumed.
        init: Weight file to start from, of a run at any resolution; random if not given.
        seed: Seed of the parameters, of the order of the data and of the augmentation.
        side: Side of the square grid on which it trains; small first and large later (``init``) saves most of the time.
        batch_size: Images a step.
        ema_decay: Decay of the moving average of the parameters, which is what is scored and kept.
        preset: A key of `cardiojax.models.NNUNET_PRESETS` in two dimensions.
        plan: File that `cardiojax.models.Plan.save` wrote, instead of the preset.
        optimizer: ``"sgd"`` as nnU-Net, or ``"adamw"``, which is further after a few thousand steps.
        sgd: Rates of the one.
        adamw: Rates of the other.
        loop: Length and intervals.
        augmentation: nnU-Net's ranges, without the mirroring and the turns by 180 degrees that make another anatomy
            of an apical view, and with this library's attenuation, speckle and narrower sectors.
    """

    data: Path
    out: Path
    init: Path | None = None
    seed: int = 0
    side: int = 224
    batch_size: int = 8
    ema_decay: float = 0.998
    preset: str = "nnunet_small_2d"
    plan: Path | None = None
    optimizer: Literal["sgd", "adamw"] = "adamw"
    sgd: train.NNUNetOptimizerConfig = train.NNUNetOptimizerConfig()
    adamw: train.OptimizerConfig = train.OptimizerConfig()
    loop: train.LoopConfig = train.LoopConfig()
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


def train_nnunet(config: TrainNNUNetConfig, *, reporter: train.Reporter | None = None) -> train.FitResult:
    """Trains an nnU-Net with deep supervision, resuming if the folder holds a run, and writes the best weights.

    Writes ``config.json``, ``metrics.jsonl``, ``tensorboard/``, ``checkpoints/`` and, at the end,
    ``weights.safetensors`` with the moving average of the best checkpoint.

    Args:
        config: The run.
        reporter: Where progress is told.

    Returns:
        The last state and the best score.

    Raises:
        ValueError: If the folder holds a run of another configuration, or the plan is not one in two dimensions.

    References:
        Isensee et al., "nnU-Net", Nature Methods 2021.
    """
    plan = models.NNUNET_PRESETS[config.preset] if config.plan is None else models.Plan.load(config.plan)
    if len(plan.spacing) != 2:
        raise ValueError(f"expected a plan in two dimensions, got one in {len(plan.spacing)}")

    def loss(output, target):
        return losses.deep_supervision_loss(region_loss, [output.logits, *output.deep_logits], target)

    num_steps = config.loop.num_steps
    if config.optimizer == "sgd":
        optimizer = train.make_nnunet_optimizer(config.sgd, num_steps)
    else:
        optimizer = train.make_optimizer(config.adamw, num_steps)
    model = models.NNUNet(plan)
    return fit_segmenter(config, model, optimizer=optimizer, loss=loss, side=config.side, reporter=reporter)
