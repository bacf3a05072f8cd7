"""How much the left ventricle ejects: two rules for the length of the disks, and the area's share."""

from typing import Literal, NamedTuple

from jaxtyping import Array, Bool, Float

from cardiojax.clinical._shapes import require_same_shape
from cardiojax.clinical.volumes import Disks, biplane_volume, camus_length, ejection_fraction, single_plane_volume

#: ``"textbook"``: each phase has its own length. ``"camus"``: the longest of all views and phases serves for all.
Rule = Literal["textbook", "camus"]


class Ejection(NamedTuple):
    """Volumes of the two phases and what is ejected between them.

    Attributes:
        end_diastolic: Volume in ml, ``[*b]``.
        end_systolic: Volume in ml, ``[*b]``.
        fraction: Ejection fraction in percent, ``[*b]``; nan where a volume is, and where ``is_reversed``.
    """

    end_diastolic: Float[Array, "*b"]
    end_systolic: Float[Array, "*b"]
    fraction: Float[Array, "*b"]

    @property
    def is_reversed(self) -> Bool[Array, "*b"]:
        """Whether the end-systolic volume is not below the end-diastolic one, so that there is no fraction."""
        return self.end_systolic >= self.end_diastolic


def single_plane_ejection(end_diastole: Disks, end_systole: Disks, *, rule: Rule = "textbook") -> Ejection:
    """Volumes and ejection fraction from one apical view.

    Args:
        end_diastole: Disks at end-diastole.
        end_systole: Disks at end-systole, as many.
        rule: Which length is cut into disks.

    Returns:
        Volumes and ejection fraction.

    Raises:
        ValueError: If there is no such rule, or the shapes of the disks differ.

    Example:
        >>> import jax.numpy as jnp
        >>> from cardiojax.clinical import Disks
        >>> end_diastole = Disks(diameters=jnp.full(20, 40.0), length=jnp.array(80.0))
        >>> end_systole = Disks(diameters=jnp.full(20, 30.0), length=jnp.array(70.0))
        >>> round(float(single_plane_ejection(end_diastole, end_systole).fraction), 1)
        50.8
        >>> round(float(single_plane_ejection(end_diastole, end_systole, rule="camus").fraction), 1)
        43.8
    """
    _require_like_disks(end_diastole, end_systole)
    length = _length(rule, end_diastole, end_systole)
    volumes = (single_plane_volume(cut, length=length) for cut in (end_diastole, end_systole))
    return _ejection(*volumes)


def biplane_ejection(
    two_chamber: tuple[Disks, Disks], four_chamber: tuple[Disks, Disks], *, rule: Rule = "textbook"
) -> Ejection:
    """Volumes and ejection fraction from the apical two- and four-chamber views (modified Simpson's rule).

    The two rules are not the same thing. On the masks of CAMUS the rule of its reference reproduces the published
    ejection fractions, and the textbook's reads about 8 points higher, because the ventricle also shortens.

    Args:
        two_chamber: Disks at end-diastole and at end-systole in the two-chamber view.
        four_chamber: The same in the four-chamber view.
        rule: Which length is cut into disks.

    Returns:
        Volumes and ejection fraction.

    Raises:
        ValueError: If there is no such rule, or the shapes of the disks differ.

    References:
        Lang et al., JASE 2015 (textbook). Leclerc et al., IEEE TMI 2019, and the notebook that comes with the data
        (CAMUS).

    Example:
        >>> import jax.numpy as jnp
        >>> from cardiojax.clinical import Disks
        >>> end_diastole = Disks(diameters=jnp.full(20, 40.0), length=jnp.array(80.0))
        >>> end_systole = Disks(diameters=jnp.full(20, 30.0), length=jnp.array(70.0))
        >>> ejection = biplane_ejection((end_diastole, end_systole), (end_diastole, end_systole))
        >>> round(float(ejection.end_diastolic), 1), round(float(ejection.fraction), 1)
        (100.5, 50.8)
    """
    _require_like_disks(*two_chamber, *four_chamber)
    length = _length(rule, *two_chamber, *four_chamber)
    volumes = (biplane_volume(two, four, length=length) for two, four in zip(two_chamber, four_chamber, strict=True))
    return _ejection(*volumes)


def area_change(end_diastolic: Float[Array, "*b"], end_systolic: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Decrease of the LV cavity area from end-diastole to end-systole, as a share of the former.

    The same share of the right ventricle is called fractional area change; that word is not used here.

    Args:
        end_diastolic: Area at end-diastole.
        end_systolic: Area at end-systole, in the same unit.

    Returns:
        Percent; nan where the end-systolic area is not below the end-diastolic one.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(area_change(jnp.array(30.0), jnp.array(18.0))), 3)
        40.0
    """
    return ejection_fraction(end_diastolic, end_systolic)


def _length(rule: Rule, *cuts: Disks) -> Float[Array, "*b"] | None:
    if rule not in ("textbook", "camus"):
        raise ValueError(f"rule must be 'textbook' or 'camus', got {rule!r}")
    return camus_length(*cuts) if rule == "camus" else None


def _require_like_disks(*cuts: Disks) -> None:
    require_same_shape(**{f"diameters {i}": cut.diameters for i, cut in enumerate(cuts)})
    require_same_shape(**{f"length {i}": cut.length for i, cut in enumerate(cuts)})


def _ejection(end_diastolic: Float[Array, "*b"], end_systolic: Float[Array, "*b"]) -> Ejection:
    return Ejection(end_diastolic, end_systolic, ejection_fraction(end_diastolic, end_systolic))
