"""Ejection by two rules, area-length, and mass: bodies whose volume is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import clinical


def stack(diameters, length):
    return clinical.Disks(jnp.asarray(diameters), jnp.asarray(length))


def cone(width, length, n=20):
    """The mean width of each slab of a cone."""
    return stack(width * (1 - (np.arange(n) + 0.5) / n), length)


def test_cone_and_cylinder_by_disks():
    cylinder = stack(np.full(20, 30.0), 80.0)
    assert float(clinical.single_plane_volume(cylinder)) == pytest.approx(np.pi * 15**2 * 80 / 1000, rel=1e-5)
    expected = np.pi * 20**2 * 90 / 3 / 1000
    assert float(clinical.single_plane_volume(cone(40.0, 90.0))) == pytest.approx(expected, rel=2e-3)
    elliptic = clinical.biplane_volume(cone(40.0, 90.0), cone(20.0, 90.0))
    assert float(elliptic) == pytest.approx(expected / 2, rel=2e-3)


def test_the_two_rules_differ_by_the_shortening():
    """A cylinder that narrows to .8 and shortens to .9 ejects 1 - .8^2 .9; with one length, 1 - .8^2."""
    two = stack(np.full(20, 50.0), 80.0), stack(np.full(20, 40.0), 72.0)
    four = stack(np.full(20, 44.0), 85.0), stack(np.full(20, 35.2), 76.5)
    textbook = clinical.biplane_ejection(two, four)
    camus = clinical.biplane_ejection(two, four, rule="camus")
    assert float(textbook.fraction) == pytest.approx(100 * (1 - 0.64 * 0.9), abs=1e-3)
    assert float(camus.fraction) == pytest.approx(36.0, abs=1e-3)
    assert float(camus.end_diastolic) == pytest.approx(np.pi / 4 * 50 * 44 * 85 / 1000, rel=1e-5)
    single = clinical.single_plane_ejection(*four, rule="camus")
    assert float(single.fraction) == pytest.approx(36.0, abs=1e-3)
    assert float(clinical.single_plane_ejection(*four).fraction) == pytest.approx(42.4, abs=1e-3)


def test_area_length_of_half_an_ellipsoid_and_of_nothing():
    area, length = np.pi * 20 * 80 / 2, 80.0
    expected = 2 / 3 * np.pi * 20**2 * 80 / 1000
    assert float(clinical.area_length_volume(jnp.array(area), jnp.array(length))) == pytest.approx(expected, rel=1e-5)
    assert bool(jnp.isnan(clinical.area_length_volume(jnp.array(0.0), jnp.array(jnp.nan))))


def test_shell_mass_of_a_half_ellipsoid(heart):
    labels = jnp.asarray(heart())
    volumes = [clinical.single_plane_volume(clinical.disks(labels, jnp.ones(2), with_wall=w)) for w in (True, False)]
    expected = 1.05 * 2 / 3 * np.pi * (30**2 * 68 - 22**2 * 60) / 1000
    assert float(clinical.shell_mass(*volumes)) == pytest.approx(expected, rel=0.04)
    wall = np.pi / 2 * (30 * 68 - 22 * 60)
    assert float(clinical.myocardial_area(labels, jnp.ones(2))) == pytest.approx(wall, rel=0.02)


def test_short_axis_formulas():
    """The truncated ellipsoid has the volume of its sections."""
    inner, outer = np.pi * 22**2, np.pi * 31**2
    mass = clinical.area_length_mass(jnp.array(outer), jnp.array(inner), jnp.array(80.0))
    assert float(mass) == pytest.approx(1.05 * 5 / 6 * (outer * 89 - inner * 80) / 1000, rel=1e-5)
    depth = np.linspace(-20, 59, 400_001)

    def solid(short, long, to_base):
        z = depth[(depth >= -to_base) & (depth <= long)]
        return np.trapezoid(np.pi * short**2 * (1 - (z / long) ** 2), z) / 1000

    expected = 1.05 * (solid(31, 59, 20) - solid(22, 50, 20))
    truncated = clinical.truncated_ellipsoid_mass(*(jnp.array(v) for v in (22.0, 9.0, 50.0, 20.0)))
    assert float(truncated) == pytest.approx(expected, rel=1e-4)


def test_volume_has_a_gradient():
    slope = jax.grad(lambda a: clinical.area_length_volume(a, jnp.array(80.0)))(jnp.array(2000.0))
    assert float(slope) == pytest.approx(16 * 2000 / (3 * np.pi * 80) / 1000, rel=1e-5)
