"""The space of shapes: densities, sampling, neighbours, correction, interpolation."""

from cardiojax.latent.correct import Correction as Correction
from cardiojax.latent.correct import MaskCorrection as MaskCorrection
from cardiojax.latent.correct import correct as correct
from cardiojax.latent.correct import correct_masks as correct_masks
from cardiojax.latent.density import Density as Density
from cardiojax.latent.density import Gaussian as Gaussian
from cardiojax.latent.density import Parzen as Parzen
from cardiojax.latent.density import fit_gaussian as fit_gaussian
from cardiojax.latent.density import fit_parzen as fit_parzen
from cardiojax.latent.density import select_bandwidth as select_bandwidth
from cardiojax.latent.neighbours import Neighbours as Neighbours
from cardiojax.latent.neighbours import nearest as nearest
