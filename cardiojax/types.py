"""Array types shared by all subpackages."""

from jaxtyping import Array, Float, Key

#: ``(dy, dx)`` in mm per pixel; leading axes broadcast against the arrays it belongs to.
Spacing = Float[Array, "*#b 2"] | tuple[float, float]
#: Part of an image in pixels: first row, row after the last, first column, column after the last.
Box = tuple[int, int, int, int]
#: One typed random key.
RandomKey = Key[Array, ""]
