"""Losses: one value per example, the caller takes the mean."""

from cardiojax.losses.adaptation import binary_cross_entropy_loss as binary_cross_entropy_loss
from cardiojax.losses.adaptation import clipped_surrogate_loss as clipped_surrogate_loss
from cardiojax.losses.adaptation import entropy_loss as entropy_loss
from cardiojax.losses.confidence import confidence_penalty_loss as confidence_penalty_loss
from cardiojax.losses.confidence import confidnet_loss as confidnet_loss
from cardiojax.losses.confidence import heteroscedastic_loss as heteroscedastic_loss
from cardiojax.losses.confidence import hint_penalty as hint_penalty
from cardiojax.losses.confidence import learned_confidence_loss as learned_confidence_loss
from cardiojax.losses.contrastive import contrastive_loss as contrastive_loss
from cardiojax.losses.latent import attribute_loss as attribute_loss
from cardiojax.losses.latent import kl_loss as kl_loss
from cardiojax.losses.latent import squared_error_loss as squared_error_loss
from cardiojax.losses.segmentation import cross_entropy_loss as cross_entropy_loss
from cardiojax.losses.segmentation import deep_supervision_loss as deep_supervision_loss
from cardiojax.losses.segmentation import dice_loss as dice_loss
from cardiojax.losses.segmentation import merge_absent as merge_absent
