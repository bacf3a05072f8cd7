"""Image encoders of the Segment Anything family."""

from cardiojax.models.sam.encoders.image_encoder import ImageEncoder as ImageEncoder
from cardiojax.models.sam.encoders.select import make_image_encoder as make_image_encoder
from cardiojax.models.sam.encoders.tiny_vit import TinyViT as TinyViT
