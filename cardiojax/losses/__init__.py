"""Losses: one value per example, the caller takes the mean."""

from cardiojax.losses.segmentation import cross_entropy_loss as cross_entropy_loss
from cardiojax.losses.segmentation import deep_supervision_loss as deep_supervision_loss
from cardiojax.losses.segmentation import dice_loss as dice_loss
