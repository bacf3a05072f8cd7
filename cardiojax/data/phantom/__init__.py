"""A simulator of annotated apical loops: real shapes in motion, exact masks, ultrasound of several scanners.

::

    heart = phantom.sample_heart(jax.random.key(0), ejection_fraction=30.0, dilation=1.2)
    loop = jax.jit(functools.partial(phantom.simulate, view="4CH", num_frames=50))(jax.random.key(1), heart)
    loop.images, loop.labels                                          # [50, 224, 224, 1], [50, 224, 224]
"""

from cardiojax.data.phantom.build import build_phantom as build_phantom
from cardiojax.data.phantom.build import open_phantom as open_phantom
from cardiojax.data.phantom.motion import Akinesia as Akinesia
from cardiojax.data.phantom.motion import Cycle as Cycle
from cardiojax.data.phantom.motion import cardiac_cycle as cardiac_cycle
from cardiojax.data.phantom.patients import PATHOLOGIES as PATHOLOGIES
from cardiojax.data.phantom.patients import Patient as Patient
from cardiojax.data.phantom.patients import PhantomSet as PhantomSet
from cardiojax.data.phantom.patients import sample_patient as sample_patient
from cardiojax.data.phantom.raster import rasterize as rasterize
from cardiojax.data.phantom.recording import Loop as Loop
from cardiojax.data.phantom.recording import simulate as simulate
from cardiojax.data.phantom.scanner import VENDORS as VENDORS
from cardiojax.data.phantom.scanner import Vendor as Vendor
from cardiojax.data.phantom.shape import Heart as Heart
from cardiojax.data.phantom.shape import sample_heart as sample_heart
