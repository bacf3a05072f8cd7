"""Scores and tables: known masks, and the reference network's published figures."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import anatomy, clinical, storage, zoo
from cardiojax import evaluation as ev
from cardiojax.analysis.recording import AnalyzeConfig, make_segment
from cardiojax.analysis.segmentation import keep_largest
from cardiojax.data.arrays import ArraySource, camus_224, stack_examples
from cardiojax.data.datasets import FrameSource
from cardiojax.evaluation.segmentation import _pairs, segment_examples
from cardiojax.evaluation.tables import to_csv, to_dict
from cardiojax.labels import CAMUS
from cardiojax.report.output import OutputFolderError


def drawn(shift=0):
    masks = np.zeros((4, 64, 64), np.int32)
    masks[:, 8:40, 16 + shift : 48 + shift] = 2
    masks[:, 14:40, 22 + shift : 42 + shift] = 1
    masks[:, 40:56, 22 + shift : 42 + shift] = 3
    return masks


PHASES = np.array(["ED", "ES", "ED", "ES"])
SPACING = np.full((4, 2), 0.5, np.float32)


def test_perfect_and_shifted_predictions():
    perfect = ev.summary(ev.score(drawn(), drawn(), SPACING, PHASES))
    shifted = ev.summary(ev.score(drawn(3), drawn(), SPACING, PHASES))
    for name in ("lv", "epicardium", "left_atrium"):
        for phase in ("ED", "ES"):
            assert perfect[name][phase]["dice"] == (1.0, 0.0, 2, 0)
            assert perfect[name][phase]["hausdorff"] == (0.0, 0.0, 2, 0)
            assert shifted[name][phase]["hausdorff"][0] == pytest.approx(1.5)
    assert shifted["lv"]["ED"]["dice"][0] == pytest.approx(17 / 20)


def test_an_empty_prediction_scores_zero_and_is_counted():
    predictions = drawn()
    predictions[0] = 0
    scores = ev.score(predictions, drawn(), SPACING, PHASES)
    result = ev.summary(scores)
    assert result["lv"]["ED"]["dice"] == (0.5, 0.5, 2, 1)
    assert result["lv"]["ED"]["hausdorff"] == (0.0, 0.0, 1, 1)
    charged = ev.summary(ev.score(predictions, drawn(), SPACING, PHASES, charge_missed=True))
    assert charged["lv"]["ED"]["hausdorff"].mean == pytest.approx(np.hypot(64, 64) * 0.5 / 2, rel=0.02)
    assert charged["lv"]["ED"]["hausdorff"].count == 2
    table = ev.format_table({"x": scores})
    assert table.count("(1 missed)") == 3
    assert "LV ED (n = 2)" in table
    rows = to_csv(scores, [{"patient": "p", "view": "2CH", "phase": phase} for phase in PHASES]).splitlines()
    assert rows[1] == "p,2CH,ED,0.00000,,,0.00000,,,0.00000,,"


def test_table_has_the_intra_observer_row():
    table = ev.format_table({"ours": ev.score(drawn(), drawn(), SPACING, PHASES)})
    header, _, ours, reference = table.splitlines()
    assert header.count("|") == ours.count("|") == reference.count("|") == 8
    assert "| 1.000 ± .000 / 0.0 ± 0.0 / 0.0 ± 0.0 |" in ours
    assert "| .945 / 4.6 / 1.4 | .930 / 4.5 / 1.3 |" in reference


def test_ejection_fraction_needs_both_views_and_phases():
    masks = drawn()
    masks[[1, 3], 14:40, 22:25] = 2  # the cavity is 17 instead of 20 pixels wide at end-systole
    source = ArraySource(
        {
            "label": masks,
            "spacing": SPACING,
            "patient": np.array(["a"] * 4),
            "view": np.array(["2CH", "2CH", "4CH", "4CH"]),
            "phase": PHASES,
        }
    )
    whole = ev.ejections(masks, source)
    assert whole.patients == ["a"]
    np.testing.assert_allclose(whole.measured.fraction, whole.reference.fraction)
    assert whole.measured.fraction[0] == pytest.approx(100 * (1 - (17 / 20) ** 2), abs=2)
    partial = ArraySource({k: v[:3] for k, v in source._arrays.items()})
    alone = ev.ejections(masks[:3], partial)
    assert alone.patients == []
    expected = "No ejection fraction of a: one of the four frames is absent."
    assert ev.format_clinical("x", alone).strip() == expected


def frames_of(patients, views):
    """Both phases of each patient and view."""
    num = len(patients)
    return ArraySource(
        {
            "image": np.zeros((2 * num, 64, 64), np.uint8),
            "label": np.tile(drawn()[:1], (2 * num, 1, 1)),
            "spacing": np.full((2 * num, 2), 0.5, np.float32),
            "patient": np.repeat(patients, 2),
            "view": np.repeat(views, 2),
            "phase": np.tile(PHASES[:2], num),
        }
    )


def test_patients_of_two_datasets_are_not_mixed():
    both, first, second = (frames_of(["1"] * len(views), views) for views in (["2CH", "4CH"], ["2CH"], ["4CH"]))
    for parts, whole, incomplete in (([both] * 2, ["a/1", "b/1"], ()), ([first, second], [], ("a/1", "b/1"))):
        source = FrameSource([(part, CAMUS) for part in parts], datasets=("a", "b"))
        arrays = stack_examples(source)
        assert _pairs([source[i] for i in range(len(source))]).tolist() == list(range(len(source)))
        ejected = ev.ejections(arrays["label"], ArraySource(arrays))
        assert (ejected.patients, ejected.incomplete) == (whole, incomplete)
    alone = FrameSource([(both, CAMUS)], datasets=("a",))
    assert alone[0]["patient"] == "1"


def test_frames_that_are_there_more_than_once_are_in_no_pair_and_in_no_ejection_fraction():
    source = frames_of(["1", "1", "1", "2", "2"], ["2CH", "4CH", "2CH", "2CH", "4CH"])
    examples = [source[i] for i in range(len(source))]
    assert _pairs(examples).tolist() == [2, 3, 6, 7, 8, 9]
    ejected = ev.ejections(stack_examples(source)["label"], source)
    assert (ejected.patients, ejected.repeated, ejected.incomplete) == (["2"], ("1",), ())
    expected = "No ejection fraction of 1: one of the four frames is there more than once."
    assert expected in ev.format_clinical("x", ejected)
    unnamed = [example | {"phase": "frame"} for example in examples]
    assert _pairs(unnamed).tolist() == []


def test_clinical_table_has_what_the_numbers_say_and_the_intra_observer_row():
    rng = np.random.default_rng(0)
    reference = clinical.Ejection(*rng.normal([[100], [50], [50]], 10, (3, 30)).astype(np.float32))
    shifted = reference._replace(fraction=reference.fraction + 3, end_systolic=reference.end_systolic - 2)
    head, _, ours, spans, observer = ev.format_clinical(
        "ours", ev.Ejections(["p"] * 30, shifted, reference)
    ).splitlines()
    assert ours == "| ours | 1.000 | 3.0 | +3.0 | 1.000 | 0.0 | +0.0 | 1.000 | 2.0 | -2.0 |"
    assert "| 1.000 to 1.000 | 3.0 to 3.0 | +3.0 to +3.0 |" in spans
    assert observer == "| intra-observer | .896 | 4.7 |  | .978 | 6.5 |  | .981 | 4.5 |  |"
    assert head.startswith("| 30 patients")


def test_patients_without_an_ejection_fraction_are_listed_and_not_in_the_means():
    volumes = np.array([[100, 90, 80, 100], [50, 40, 85, np.nan]], np.float32)
    reference = clinical.Ejection(*volumes[:, [0, 1, 0, 1]], np.array([50, 55, 50, 55], np.float32))
    fraction = np.array([50, 55, np.nan, np.nan], np.float32)
    ejected = ev.Ejections(["a", "b", "c", "d"], clinical.Ejection(*volumes, fraction), reference)
    table = ev.format_clinical("ours", ejected)
    assert table.startswith("| 2 patients")
    assert "No ejection fraction of c: end-systolic volume not below the end-diastolic one." in table
    assert "No ejection fraction of d: no outline of the left ventricle." in table
    written = json.loads(storage.to_json(to_dict(ev.score(drawn(), drawn(), SPACING, PHASES), ejected)))
    assert written["ejection_fractions"]["c"]["measured_percent"] is None
    assert sorted(written["failed"]) == ["c", "d"]


def test_reference_network_has_its_published_dice(data_dir, golden_dir):
    predicted = np.load(golden_dir / "torch_unet_pred_val.npz")["label"].astype(np.int32)
    truth = np.load(data_dir / "camus_224" / "camus224_val.npz")
    scores = ev.score(predicted, truth["label"].astype(np.int32), truth["spacing_rc_mm"], truth["phase"])
    result = ev.summary(scores)
    expected = {"lv": (0.950, 0.925), "epicardium": (0.961, 0.951), "left_atrium": (0.903, 0.927)}
    for name, values in expected.items():
        for phase, value in zip(("ED", "ES"), values, strict=True):
            assert result[name][phase]["dice"][0] == pytest.approx(value, abs=6e-4)


def test_command_writes_what_it_prints(data_dir, tmp_path):
    arrays = np.load(data_dir / "camus_224" / "camus224_val.npz")
    np.savez(tmp_path / "few.npz", **{k: arrays[k][:9] for k in arrays})  # the last lacks its other phase
    config = ev.EvaluateConfig(data=tmp_path / "few.npz", out=tmp_path / "out")
    table = ev.evaluate(config)
    assert (tmp_path / "out" / "table.md").read_text() == table
    assert "| unet_pair_camus, both phases; unet_camus, 1 other frame |" in table
    assert b"<svg" in (tmp_path / "out" / "bland_altman.svg").read_bytes()
    assert len((tmp_path / "out" / "scores.csv").read_text().splitlines()) == 10
    scores = json.loads((tmp_path / "out" / "scores.json").read_text(), parse_constant=pytest.fail)
    assert scores["structures"]["lv"]["ED"]["dice"]["mean"] > 0.9
    assert [scores["structures"]["lv"][phase]["hausdorff"]["count"] for phase in ("ED", "ES")] == [5, 4]
    (tmp_path / "out" / "table.md").write_text("my own notes")
    with pytest.raises(OutputFolderError, match=r"holds table\.md"):
        ev.evaluate(config)
    with pytest.raises(OutputFolderError, match="holds the input"):
        ev.evaluate(dataclasses.replace(config, out=tmp_path))


def test_frames_of_one_phase_are_scored_by_the_model_that_is_named(data_dir, tmp_path):
    arrays = np.load(data_dir / "camus_224" / "camus224_val.npz")
    end_diastole = arrays["phase"][:9] == "ED"
    np.savez(tmp_path / "few.npz", **{k: arrays[k][:9][end_diastole] for k in arrays})
    table = ev.evaluate(ev.EvaluateConfig(data=tmp_path / "few.npz"))
    assert "| unet_camus |" in table
    assert "pair" not in table
    assert "nan" not in table
    assert "No ejection fraction of 3 patients: one of the four frames is absent." in table


def write_empty_pair(path):
    """Both phases of one view, without an image or a mask."""
    np.savez(
        path,
        image=np.zeros((2, 32, 32), np.uint8),
        label=np.zeros((2, 32, 32), np.uint8),
        patient=["a", "a"],
        view=["2CH", "2CH"],
        phase=["ED", "ES"],
        spacing_rc_mm=np.ones((2, 2), np.float32),
    )


def test_options_that_contradict_each_other_are_refused(tmp_path):
    write_empty_pair(tmp_path / "pair.npz")
    config = ev.EvaluateConfig(data=tmp_path / "pair.npz")
    with pytest.raises(ValueError, match=r"unet_pair_camus segments every frame and the ensemble none"):
        ev.evaluate(dataclasses.replace(config, segment=AnalyzeConfig(ensemble=("nnunet_camus",))))
    with pytest.raises(ValueError, match=r"give --segment.model or --weights, not both"):
        ev.evaluate(dataclasses.replace(config, weights=tmp_path / "w", segment=AnalyzeConfig(model="nnunet_camus")))


def test_weights_that_name_no_model_are_refused(tmp_path):
    write_empty_pair(tmp_path / "few.npz")
    zoo.save_weights(tmp_path / "own.safetensors", {"dense": {"kernel": jnp.ones((2, 3))}})
    with pytest.raises(zoo.WeightsError, match="does not say which model it is for, expected a file that"):
        ev.evaluate(ev.EvaluateConfig(data=tmp_path / "few.npz", weights=tmp_path / "own.safetensors"))


def test_a_model_on_another_grid_gives_its_masks_on_the_images_own():
    truth = np.zeros((3, 64, 64), np.int32)
    truth[:, 16:48, 8:40] = 1

    def segment(small):
        assert small.shape == (3, 32, 32, 1)
        return np.concatenate([1 - small, small, 0 * small, 0 * small], axis=-1)

    predicted = ev.predict((200 * truth).astype(np.uint8), segment, size=32)
    assert predicted.shape == truth.shape
    assert (predicted != truth).mean() < 0.005
    with pytest.raises(ValueError, match=r"returned probabilities \[3, 32, 32, 1\], expected \[3, 32, 32, 4\]"):
        ev.predict(truth, lambda small: small, size=32)


def test_an_ensemble_averages_probabilities(tmp_path):
    paths = [str(tmp_path / f"{seed}.safetensors") for seed in (0, 1)]
    for seed, path in enumerate(paths):
        model = zoo.create("unet", features=(2, 4))
        params = model.init(jax.random.key(seed), jnp.zeros((1, 16, 16, 1)))["params"]
        zoo.save(path, "unet", params, features=(2, 4))
    images = np.random.default_rng(0).random((3, 16, 16, 1), np.float32)

    def probs(*names):
        config = AnalyzeConfig(model=names[0], ensemble=names[1:], size=16, batch_size=2)
        return make_segment(config)(images)

    np.testing.assert_allclose(probs(*paths), (probs(paths[0]) + probs(paths[1])) / 2, atol=1e-6)


def test_members_of_an_ensemble_may_order_their_structures_differently(tmp_path):
    orders = (("right_ventricle", "right_atrium"), ("right_atrium", "right_ventricle"))
    paths = [str(tmp_path / f"{i}.safetensors") for i in range(2)]
    for path, order in zip(paths, orders, strict=True):
        names = ["background", "lv", *order]
        model = zoo.create("unet", features=(2, 4), num_classes=4)
        params = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]
        certain = 50 * jax.nn.one_hot(names.index("right_ventricle"), 4)
        params = jax.tree.map(lambda x, bias=certain: bias if x.shape == (4,) else 0 * x, params)
        zoo.save(path, "unet", params, card={"structures": names}, features=(2, 4), num_classes=4)
    for first, second in (paths, paths[::-1]):
        segment = make_segment(AnalyzeConfig(model=first, ensemble=(second,), size=16, batch_size=1))
        mean = dict(zip(segment.structures.names, segment(np.zeros((1, 16, 16, 1), np.float32))[0, 8, 8], strict=True))
        assert mean["right_ventricle"] == pytest.approx(1)
        assert mean["right_atrium"] == pytest.approx(0)


def test_what_is_scored_is_separated_from_the_atrium_and_then_the_largest_region(data_dir):
    source = camus_224(data_dir / "camus_224" / "camus224_val.npz")
    examples = [source[i] for i in range(16)]

    def predicted(**options):
        segment = AnalyzeConfig(pair_model="none", **options)
        return segment_examples(ev.EvaluateConfig(data=Path("-"), segment=segment), examples)

    raw = predicted(largest_component=False, separate_atrium=False)
    separated = np.asarray(anatomy.separate_atrium(jnp.asarray(raw), max_contact=anatomy.MAX_EXPERT_CONTACT))
    assert (separated != raw).any()
    np.testing.assert_array_equal(predicted(), np.stack([keep_largest(mask) for mask in separated]))
