"""Array types shared by all subpackages."""

from jaxtyping import Array, Bool, Float, Int, Key

#: Integer label maps with any number of leading axes: 0 background, 1 LV cavity, 2 myocardium, 3 left atrium.
Labels = Int[Array, "*b h w"]
#: Binary masks.
Mask = Bool[Array, "*b h w"]
#: Images in [0, 1], channels last.
Images = Float[Array, "*b h w c"]
#: Unnormalised class scores.
Logits = Float[Array, "*b h w k"]
#: Class probabilities.
Probs = Float[Array, "*b h w k"]
#: ``(dy, dx)`` in mm per pixel; leading axes broadcast against the arrays it belongs to.
Spacing = Float[Array, "*#b 2"]
#: One typed random key.
RandomKey = Key[Array, ""]
