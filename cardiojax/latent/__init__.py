"""Latent space of shapes: densities, rejection sampling, nearest neighbours, correction, interpolation."""

from cardiojax.latent.correct import Correction as Correction
from cardiojax.latent.correct import MaskCorrection as MaskCorrection
from cardiojax.latent.correct import correct as correct
from cardiojax.latent.correct import correct_masks as correct_masks
from cardiojax.latent.densify import Candidates as Candidates
from cardiojax.latent.densify import draw_candidates as draw_candidates
from cardiojax.latent.density import Density as Density
from cardiojax.latent.density import Gaussian as Gaussian
from cardiojax.latent.density import Parzen as Parzen
from cardiojax.latent.density import fit_gaussian as fit_gaussian
from cardiojax.latent.density import fit_parzen as fit_parzen
from cardiojax.latent.density import select_bandwidth as select_bandwidth
from cardiojax.latent.mixture import Mixture as Mixture
from cardiojax.latent.mixture import fit_mixture as fit_mixture
from cardiojax.latent.neighbours import Neighbours as Neighbours
from cardiojax.latent.neighbours import nearest as nearest
from cardiojax.latent.paths import interpolate as interpolate
from cardiojax.latent.paths import traverse as traverse
from cardiojax.latent.rejection import Envelope as Envelope
from cardiojax.latent.rejection import Proposal as Proposal
from cardiojax.latent.rejection import Samples as Samples
from cardiojax.latent.rejection import measure_envelope as measure_envelope
from cardiojax.latent.rejection import propose as propose
from cardiojax.latent.rejection import rejection_sample as rejection_sample
