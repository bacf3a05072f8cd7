"""Primitives on arrays that everything else is made of."""

from cardiojax.ops.attention import attention as attention
from cardiojax.ops.components import fill_holes as fill_holes
from cardiojax.ops.components import flood_fill as flood_fill
from cardiojax.ops.components import label as label
from cardiojax.ops.components import largest_component as largest_component
from cardiojax.ops.contours import Contour as Contour
from cardiojax.ops.contours import contour as contour
from cardiojax.ops.distance import distance_to as distance_to
from cardiojax.ops.distance import distance_transform as distance_transform
from cardiojax.ops.layers import conv_transpose_2x2 as conv_transpose_2x2
from cardiojax.ops.layers import instance_norm as instance_norm
from cardiojax.ops.layers import max_pool as max_pool
from cardiojax.ops.layers import upsample_2x as upsample_2x
from cardiojax.ops.morphology import dilate as dilate
from cardiojax.ops.morphology import erode as erode
from cardiojax.ops.points import HingePoints as HingePoints
from cardiojax.ops.points import farthest_pixel as farthest_pixel
from cardiojax.ops.points import hinge_points as hinge_points
from cardiojax.ops.points import lowest_pixel as lowest_pixel
from cardiojax.ops.series import fill_missing as fill_missing
from cardiojax.ops.sliding import gaussian_weights as gaussian_weights
from cardiojax.ops.sliding import mirrored as mirrored
from cardiojax.ops.sliding import patch_corners as patch_corners
from cardiojax.ops.sliding import sliding_window as sliding_window
from cardiojax.ops.upsample import conv_transpose_blocks as conv_transpose_blocks
