"""The numbers of a patient: known volumes, scaling, symmetry, beats, units that are unknown, and what is withheld."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiojax import clinical, study
from cardiojax.data import phantom
from cardiojax.data.arrays import ArraySource, camus_224, stack_examples
from cardiojax.evaluation.scores import ejections
from cardiojax.study import precision
from cardiojax.study.quantities import DEFINITIONS, HEADLINES, INDICES
from cardiojax.study.view import Strains
from tests.helpers import clinical_numbers

SIZE = 160


def drawn(short, long, *, wall=8.0, atrium=(20.0, 25.0), size=SIZE):
    """Half an ellipse of cavity, apex up, in a wall, above an atrium that is an ellipse; sizes in pixels."""
    rows, cols = np.mgrid[:size, :size] - np.array([0.6 * size, 0.5 * size - 0.5])[:, None, None]
    above = rows <= 0
    cavity = above & ((rows / long) ** 2 + (cols / short) ** 2 < 1)
    outer = above & ((rows / (long + wall)) ** 2 + (cols / (short + wall)) ** 2 < 1)
    below = ~above & (((rows - atrium[1]) / atrium[1]) ** 2 + (cols / atrium[0]) ** 2 < 1)
    return np.select([cavity, outer, below], [1, 2, 3], 0).astype(np.int32)


def view_of(name, sizes, spacing=(1.0, 1.0), **options):
    """A view with a beat for each pair of (short, long) half axes at end-diastole and end-systole."""
    labels = np.stack([[drawn(*phase, **options) for phase in beat] for beat in sizes])
    return study.View.of_labels(name, labels, spacing)


ONE_BEAT = [((24.0, 80.0), (18.0, 70.0))]
TWO = view_of("2CH", ONE_BEAT)
FOUR = view_of("4CH", [((30.0, 84.0), (22.0, 72.0))])


def values(measurements):
    return {quantity.key: quantity.value for quantity in measurements.quantities}


def half_ellipsoid(a, b, length):
    """Volume in ml of half an ellipsoid with half axes a, b and the length."""
    return 2 / 3 * np.pi * a * b * length / 1000


def test_volumes_of_half_ellipsoids_are_known():
    fine = [
        view_of(name, [[(2 * a, 2 * b) for a, b in beat] for beat in beats], (0.5, 0.5), wall=16.0, size=2 * SIZE)
        for name, beats in (("2CH", ONE_BEAT), ("4CH", [((30.0, 84.0), (22.0, 72.0))]))
    ]
    found = values(study.measure_study(*fine))
    # each disk keeps its width, and the longer of the two lengths is cut into disks
    expected = [half_ellipsoid(24, 30, 84), half_ellipsoid(18, 22, 72)]
    measured = [found[f"end_{phase}_volume_biplane"] for phase in ("diastolic", "systolic")]
    np.testing.assert_allclose(measured, expected, rtol=0.02)
    np.testing.assert_allclose(found["stroke_volume"], measured[0] - measured[1], rtol=1e-5)
    np.testing.assert_allclose(found["ejection_fraction_biplane"], 100 * (1 - measured[1] / measured[0]), rtol=1e-5)
    np.testing.assert_allclose(found["end_diastolic_volume_4ch"], half_ellipsoid(30, 30, 84), rtol=0.02)
    np.testing.assert_allclose(found["length_end_diastolic_2ch"], 80, atol=1.5)
    sphere = np.pi / 6 * 84**3 / 1000
    np.testing.assert_allclose(found["sphericity_index"], expected[0] / sphere, rtol=0.06)
    np.testing.assert_allclose(found["area_change_2ch"], 100 * (1 - 18 * 70 / (24 * 80)), atol=1.5)
    shell = half_ellipsoid(32, 38, 92) - expected[0]
    np.testing.assert_allclose(found["myocardial_mass"], 1.05 * shell, rtol=0.05)


def test_the_atrium_of_an_ellipsoid_is_known():
    """Area-length is exact for an ellipsoid; the disks are those of the same ellipses."""
    atria = [view_of(name, ONE_BEAT, atrium=(short, 26.0)) for name, short in (("2CH", 19.0), ("4CH", 23.0))]
    found = values(study.measure_study(*atria))
    volume = 4 / 3 * np.pi * 19 * 23 * 26 / 1000
    np.testing.assert_allclose(found["atrial_volume_area_length"], volume, rtol=0.03)
    np.testing.assert_allclose(found["atrial_volume_disks"], volume, rtol=0.03)
    np.testing.assert_allclose(found["atrial_volume_4ch"], 4 / 3 * np.pi * 23**2 * 26 / 1000, rtol=0.03)


def test_the_camus_rule_takes_one_length():
    found = values(study.measure_study(TWO, FOUR))
    assert found["end_diastolic_volume_camus"] == pytest.approx(found["end_diastolic_volume_biplane"])
    ratio = TWO.corrected.cavity.length[0, 1], FOUR.corrected.cavity.length[0]
    longer = found["end_systolic_volume_camus"] / found["end_systolic_volume_biplane"]
    assert longer == pytest.approx(ratio[1][0] / ratio[1][1], rel=1e-4)
    assert found["ejection_fraction_camus"] < found["ejection_fraction_biplane"]


POWERS = {"ml": 3, "g": 3, "mm": 1, "%": 0, "": 0}


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(0.3, 3.0))
def test_sizes_scale_with_the_spacing_and_shares_do_not(scale):
    views = [view_of(name, ONE_BEAT, spacing=(scale, scale), size=96) for name in ("2CH", "4CH")]
    units = [view_of(name, ONE_BEAT, size=96) for name in ("2CH", "4CH")]
    scaled, unit = (values(study.measure_study(*pair)) for pair in (views, units))
    for key, definition in DEFINITIONS.items():
        if np.isfinite(unit[key]):
            assert scaled[key] == pytest.approx(unit[key] * scale ** POWERS[definition.unit], rel=2e-3), key


@settings(max_examples=5, deadline=None)
@given(st.permutations([TWO, FOUR]))
def test_biplane_numbers_do_not_depend_on_which_view_is_which(views):
    first, second = views
    found = values(study.measure_study(first._replace(name="2CH"), second._replace(name="4CH")))
    expected = values(study.measure_study(TWO, FOUR))
    for key in expected:
        if not key.endswith(("_2ch", "_4ch")) and np.isfinite(expected[key]):
            assert found[key] == pytest.approx(expected[key], rel=1e-5), key


def test_every_beat_counts_and_the_median_is_shown():
    beats = [((24.0, 80.0), (18.0, 70.0)), ((25.0, 80.0), (18.0, 68.0)), ((24.0, 78.0), (20.0, 70.0))]
    two = view_of("2CH", beats)
    measured = study.measure_study(two, FOUR)
    single = [study.measure_study(view_of("2CH", [beat]), FOUR) for beat in beats]
    for key in ("ejection_fraction_biplane", "end_diastolic_volume_biplane", "ejection_fraction_2ch"):
        quantity, each = measured.by_key(key), [m.by_key(key).value for m in single]
        assert quantity.num_beats == 3
        assert quantity.value == pytest.approx(np.median(each))
        assert quantity.beats == pytest.approx((min(each), max(each)))
    assert measured.by_key("ejection_fraction_4ch").num_beats == 1


def test_numbers_as_drawn_are_kept_beside_those_after_corrections():
    larger = view_of("4CH", [((32.0, 84.0), (24.0, 72.0))])
    changed = FOUR._replace(drawn=larger.corrected, corrected_frames=(0, 5))
    measured, as_drawn = study.measure_study(TWO, changed), values(study.measure_study(TWO, larger))
    expected = values(study.measure_study(TWO, FOUR))
    for key in ("ejection_fraction_biplane", "end_systolic_volume_biplane", "stroke_volume", "area_change_4ch"):
        assert measured.by_key(key).value == pytest.approx(expected[key])
        assert measured.by_key(key).drawn == pytest.approx(as_drawn[key])
    assert measured.corrected_frames == {"2CH": (), "4CH": (0, 5)}


def test_without_a_spacing_there_are_fractions_and_no_millilitres():
    views = [view_of(name, ONE_BEAT, spacing=None) for name in ("2CH", "4CH")]
    measured = study.measure_study(views[0], FOUR)
    assert np.isfinite(measured.by_key("ejection_fraction_2ch").value)
    assert np.isfinite(measured.by_key("area_change_2ch").value)
    for key in ("end_diastolic_volume_2ch", "ejection_fraction_biplane", "stroke_volume", "atrial_volume_disks"):
        assert measured.by_key(key).reason == "The pixel spacing of the two-chamber clip is unknown."
    assert np.isfinite(measured.by_key("end_diastolic_volume_4ch").value)


def test_a_withdrawn_number_of_one_view_takes_those_of_both_with_it():
    wrong = TWO._replace(withdrawn={"ejection fraction": "It is outside 5 to 85 %."})
    measured = study.measure_study(wrong, FOUR)
    for key in ("ejection_fraction_biplane", "stroke_volume", "ejection_fraction_2ch"):
        assert measured.by_key(key).reason == "Two-chamber clip: It is outside 5 to 85 %."
        assert np.isnan(measured.by_key(key).drawn)
    assert np.isfinite(measured.by_key("ejection_fraction_4ch").value)
    assert np.isfinite(measured.by_key("end_diastolic_volume_biplane").value)


def test_an_atrium_that_is_cut_off_is_not_measured():
    measured = study.measure_study(TWO._replace(is_atrium_cut_off=True), FOUR)
    for key in ("atrial_volume_disks", "atrial_volume_area_length", "atrial_volume_2ch"):
        assert "reaches the edge of the sector in the two-chamber view" in measured.by_key(key).reason
    assert np.isfinite(measured.by_key("atrial_volume_4ch").value)


def test_one_view_gives_single_plane_numbers_alone():
    measured = study.measure_study(None, FOUR)
    assert measured.by_key("ejection_fraction_biplane").reason == "There is no two-chamber clip."
    assert measured.by_key("end_diastolic_volume_2ch").reason == "There is no two-chamber clip."
    assert measured.headlines[0].key == "ejection_fraction_4ch"
    with pytest.raises(ValueError, match="at least one view"):
        study.measure_study(None, None)


def test_indices_ranges_and_grades_by_sex():
    woman, man = (study.Patient(sex, 170.0, 70.0) for sex in ("F", "M"))
    rates = [view._replace(heart_rate=rate) for view, rate in ((TWO, 70.0), (FOUR, 74.0))]
    measured = {who.sex: study.measure_study(*rates, patient=who) for who in (woman, man)}
    found = values(measured["F"])
    area = 0.007184 * 70**0.425 * 170**0.725
    assert found["body_surface_area"] == pytest.approx(area, rel=1e-5)
    for key, index in INDICES.items():
        assert found[index] == pytest.approx(found[key] / area, rel=1e-5)
    assert found["cardiac_output"] == pytest.approx(found["stroke_volume"] * 72 / 1000, rel=1e-5)
    for sex, low in (("F", 54), ("M", 52)):
        fraction = measured[sex].by_key("ejection_fraction_biplane")
        assert fraction.reference.low == low
        assert fraction.grade == clinical.grade(fraction.value, clinical.reference_range("ejection_fraction", sex))
    unknown = study.measure_study(*rates)
    assert unknown.by_key("ejection_fraction_biplane").grade is None
    assert unknown.by_key("cardiac_index").reason == "The patient's height and weight are unknown."


OUTSIDE = "The heart rate is outside 25 to 220 per minute: the frame rate may be wrong."


def test_one_view_suffices_for_the_heart_rate():
    patient, other = study.Patient("F", 170.0, 70.0), FOUR._replace(heart_rate=65.0)
    wrong = TWO._replace(withdrawn={"heart rate": OUTSIDE})
    for view in (wrong, TWO, TWO._replace(has_phases=False, heart_rate=90.0)):
        measured = study.measure_study(view, other, patient=patient)
        assert measured.by_key("heart_rate").value == 65
    found = values(study.measure_study(wrong, other, patient=patient))
    assert found["cardiac_output"] == pytest.approx(found["stroke_volume"] * 65 / 1000, rel=1e-5)
    assert found["cardiac_index"] == pytest.approx(found["cardiac_output"] / found["body_surface_area"], rel=1e-5)


def test_the_heart_rate_and_the_cardiac_output_say_why_no_view_gives_a_rate():
    wrong = TWO._replace(withdrawn={"heart rate": OUTSIDE})
    unknown = "The files state no heart rate and no loop holds two beats."
    for two, four, reason in (
        (wrong, FOUR._replace(withdrawn=wrong.withdrawn), f"Two-chamber clip: {OUTSIDE}"),
        (wrong, FOUR, f"Two-chamber clip: {OUTSIDE}"),
        (TWO, FOUR, unknown),
        (None, FOUR, unknown),
        (None, FOUR._replace(has_phases=False, heart_rate=65.0), "The four-chamber clip is a single frame."),
    ):
        measured = study.measure_study(two, four)
        assert measured.by_key("heart_rate").reason == reason
        assert two is None or measured.by_key("cardiac_output").reason == reason


def test_the_cardiac_output_needs_the_volumes_of_both_views():
    wrong = TWO._replace(withdrawn={"volumes": "Too large."})
    measured = study.measure_study(wrong, FOUR._replace(heart_rate=65.0))
    assert measured.by_key("cardiac_output").reason == "Two-chamber clip: Too large."
    assert measured.by_key("heart_rate").value == 65


def test_strain_is_the_mean_of_the_two_views():
    views = [
        view._replace(
            strains=Strains(np.array([mid]), np.array([mid - 4])), strains_drawn=Strains(*[np.array([-1.0])] * 2)
        )
        for view, mid in ((TWO, -18.0), (FOUR, -21.0))
    ]
    measured = study.measure_study(*views)
    assert measured.by_key("longitudinal_strain_mean").value == pytest.approx(-19.5)
    assert measured.by_key("longitudinal_strain_mean").drawn == pytest.approx(-1.0)
    assert measured.by_key("longitudinal_strain_endocardial_4ch").value == pytest.approx(-25.0)


def test_a_beat_that_cannot_be_measured_is_left_out_of_the_strain_of_both_views():
    strains = ((TWO, np.array([-18.0, np.nan, -19.0])), (FOUR, np.array([-20.0])))
    views = [
        view._replace(strains=Strains(beats, beats), strains_drawn=Strains(beats, beats)) for view, beats in strains
    ]
    mean = study.measure_study(*views).by_key("longitudinal_strain_mean")
    assert (mean.value, mean.drawn) == pytest.approx((-19.25, -19.25))
    nothing = views[1]._replace(strains=Strains(*[np.array([np.nan])] * 2))
    mean = study.measure_study(views[0], nothing).by_key("longitudinal_strain_mean")
    assert mean.reason == "It cannot be measured on the outlines."


def test_intervals_are_given_for_the_validated_networks_alone():
    assert set(precision.PRECISION) <= set(DEFINITIONS)
    measured = study.measure_study(TWO, FOUR, is_validated=True).by_key("ejection_fraction_biplane")
    bias, deviation = precision.PRECISION["ejection_fraction_biplane"]
    low, high = measured.interval
    assert (low + high) / 2 == pytest.approx(measured.value - bias)
    assert high - low == pytest.approx(2 * 1.96 * deviation)
    assert study.measure_study(TWO, FOUR).by_key("ejection_fraction_biplane").interval is None


@pytest.mark.parametrize(
    ("key", "value", "possible"),
    [
        ("ejection_fraction_2ch", 8.0, (0.0, 100.0)),
        ("ejection_fraction_2ch", 95.0, (0.0, 100.0)),
        ("area_change_4ch", 96.0, (0.0, 100.0)),
        ("end_systolic_volume_4ch", 10.0, (0.0, np.inf)),
        ("myocardial_mass", 40.0, (0.0, np.inf)),
        ("sphericity_index", 0.01, (0.0, np.inf)),
        ("longitudinal_strain_2ch", -2.0, (-np.inf, np.inf)),
        ("longitudinal_strain_mean", -1.0, (-np.inf, np.inf)),
    ],
)
def test_intervals_end_where_a_number_is_impossible(key, value, possible):
    bias, deviation = precision.PRECISION[key]
    expected = np.clip([value - bias - 1.96 * deviation, value - bias + 1.96 * deviation], *possible)
    assert precision.interval(key, value) == pytest.approx(tuple(expected))


def test_an_impossible_number_has_no_interval():
    assert precision.interval("area_change_2ch", -20.0) is None
    assert precision.interval("ejection_fraction_2ch", 100.5) is None


def test_headlines_and_indices_are_quantities():
    assert set(HEADLINES) | set(INDICES) | set(INDICES.values()) <= set(DEFINITIONS)


def test_a_phantom_of_both_views_is_measured():
    """Exact masks of a simulated heart: volumes of each view as its contours have them, and the ejection fraction."""
    heart = phantom.sample_heart(jax.random.key(3), ejection_fraction=55.0)
    views = []
    for name in ("2CH", "4CH"):
        loop = phantom.simulate(
            jax.random.key(0), heart, view=name, num_frames=2, frame_rate=2.8, num_scatterers=50, ejection_fraction=55.0
        )
        labels, spacing = np.asarray(loop.labels), np.asarray(loop.spacing, float)
        view = study.View.of_labels(name, labels[None], tuple(spacing))
        found = study.measure_study(view if name == "2CH" else None, view if name == "4CH" else None)
        volumes = [found.by_key(f"end_{phase}_volume_{name.lower()}").value for phase in ("diastolic", "systolic")]
        np.testing.assert_allclose(volumes, loop.volume, rtol=0.05)
        views.append((view, np.asarray(loop.volume)))
    measured = study.measure_study(views[0][0], views[1][0])
    single = sorted(100 * (1 - volume[1] / volume[0]) for _, volume in views)
    assert single[0] - 3 < measured.by_key("ejection_fraction_biplane").value < single[1] + 3


def test_the_camus_rule_is_that_of_evaluate_to_the_last_digit():
    folder = os.environ.get("CARDIOJAX_DATA")
    path = Path(folder or "", "camus_224", "camus224_val.npz")
    if folder is None or not path.exists():
        pytest.skip("set CARDIOJAX_DATA to a folder with camus_224/camus224_val.npz")
    arrays = stack_examples(camus_224(path))
    names = sorted(set(arrays["patient"].tolist()))[:4]
    chosen = ArraySource({key: array[np.isin(arrays["patient"], names)] for key, array in arrays.items()})
    examples = [chosen[i] for i in range(len(chosen))]
    reference = ejections(np.stack([e["label"] for e in examples]), chosen).reference
    for name, fraction in zip(names, reference.fraction, strict=True):
        views = []
        for view in ("2CH", "4CH"):
            pair = [
                e
                for phase in ("ED", "ES")
                for e in examples
                if (e["patient"], e["view"], e["phase"]) == (name, view, phase)
            ]
            labels = np.stack([e["label"] for e in pair]).astype(np.int32)
            views.append(study.View.of_labels(view, labels[None], tuple(map(float, pair[0]["spacing"]))))
        assert study.measure_study(*views).by_key("ejection_fraction_camus").value == pytest.approx(
            float(fraction), abs=1e-4
        )


def test_the_docs_list_every_number():
    assert clinical_numbers.table() in clinical_numbers.PAGE.read_text("utf-8"), (
        "run python -m tests.helpers.clinical_numbers"
    )
