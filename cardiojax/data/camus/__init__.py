"""The CAMUS dataset: building it once, reading it through Grain ever after."""

from cardiojax.data.camus.build import build_camus as build_camus
from cardiojax.data.camus.build import open_camus as open_camus
