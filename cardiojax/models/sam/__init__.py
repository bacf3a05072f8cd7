"""Segment Anything and its medical children."""

from cardiojax.models.sam.model import SAM as SAM
from cardiojax.models.sam.model import SAM_PRESETS as SAM_PRESETS
from cardiojax.models.sam.model import SAMConfig as SAMConfig
from cardiojax.models.sam.model import SAMOutput as SAMOutput
from cardiojax.models.sam.predictor import Embedded as Embedded
from cardiojax.models.sam.predictor import Prediction as Prediction
from cardiojax.models.sam.predictor import embed_image as embed_image
from cardiojax.models.sam.predictor import predict_masks as predict_masks
from cardiojax.models.sam.processing import postprocess as postprocess
from cardiojax.models.sam.processing import preprocess as preprocess
from cardiojax.models.sam.processing import resized_shape as resized_shape
from cardiojax.models.sam.processing import stretch as stretch
from cardiojax.models.sam.prompt_encoder import Prompts as Prompts
