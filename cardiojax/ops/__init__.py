"""Primitives on arrays that everything else is made of."""

from cardiojax.ops.components import fill_holes as fill_holes
from cardiojax.ops.components import flood_fill as flood_fill
from cardiojax.ops.components import label as label
from cardiojax.ops.components import largest_component as largest_component
from cardiojax.ops.convolution import conv as conv
from cardiojax.ops.distance import distance_to as distance_to
from cardiojax.ops.distance import distance_transform as distance_transform
from cardiojax.ops.layers import conv_transpose_2x2 as conv_transpose_2x2
from cardiojax.ops.layers import instance_norm as instance_norm
from cardiojax.ops.layers import max_pool as max_pool
from cardiojax.ops.layers import upsample_2x as upsample_2x
