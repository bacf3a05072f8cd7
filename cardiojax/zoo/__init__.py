"""Models by name, with packaged weights."""

from cardiojax.zoo.registry import Entry as Entry
from cardiojax.zoo.registry import abstract_variables as abstract_variables
from cardiojax.zoo.registry import card as card
from cardiojax.zoo.registry import create as create
from cardiojax.zoo.registry import list_models as list_models
from cardiojax.zoo.registry import load as load
from cardiojax.zoo.registry import load_bank as load_bank
from cardiojax.zoo.weights import WeightsError as WeightsError
from cardiojax.zoo.weights import load_codes as load_codes
from cardiojax.zoo.weights import load_weights as load_weights
from cardiojax.zoo.weights import save_weights as save_weights
