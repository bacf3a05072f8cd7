"""Losses: one value per example, the caller takes the mean."""

from cardiojax.losses.latent import attribute_loss as attribute_loss
from cardiojax.losses.latent import kl_loss as kl_loss
from cardiojax.losses.latent import squared_error_loss as squared_error_loss
from cardiojax.losses.segmentation import cross_entropy_loss as cross_entropy_loss
from cardiojax.losses.segmentation import dice_loss as dice_loss
