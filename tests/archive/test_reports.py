"""A report for each study of an archive, by the writer of `cardiojax analyze`; one cut short is written again."""

import json

import pytest

from cardiojax import cli, zoo
from cardiojax.archive import BatchConfig, study_label
from cardiojax.cli.batch import analyze_archive
from cardiojax.study import StudyError
from tests.helpers import identity
from tests.helpers.archive import make_sizes

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def weights(tmp_path_factory, fill):
    """A tiny network, whose outlines mean nothing."""
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    params = fill(zoo.abstract_variables("unet_camus", features=(4, 8)))["params"]
    zoo.save(path, "unet_camus", params, features=(4, 8))
    return path


def test_each_measured_study_has_a_report_and_a_killed_run_resumes(tmp_path, capsys, weights):
    root, out, reports = tmp_path / "archive", tmp_path / "t.parquet", tmp_path / "reports"
    for i in range(2):
        (root / f"Mustermann_{i}").mkdir(parents=True)
        identity.write_nifti(root / f"Mustermann_{i}" / "Erika.nii.gz", identity.frames(2))
    (root / "broken").mkdir()
    (root / "broken" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nMustermann")
    options = ["--out", out, "--reports", reports, "--view", "4CH", "--model", weights, "--size", 32]
    options += ["--no-anatomical-correction", "--no-temporal-correction", "--grid-sizes", 256, "--pair-model", "none"]
    arguments = ["batch", root, *options]
    assert cli.main([*map(str, arguments)]) == 0
    labels = {study_label(f"Mustermann_{i}") for i in range(2)}
    assert {folder.name for folder in reports.iterdir()} == labels
    for label in labels:
        assert {"report.html", "measurements.json", "masks.nii.gz"} <= {p.name for p in (reports / label).iterdir()}
    rows = {row["study"]: row for row in parquet.read_table(out).to_pylist()}
    for label in labels:
        value = json.loads((reports / label / "measurements.json").read_text())["measurements"]["area_change_4ch"][
            "value"
        ]
        row = rows[label]["area_change_4ch_percent"]
        assert row == value or row == pytest.approx(value, abs=1e-4)
    content = b"".join(p.read_bytes() for p in reports.rglob("*") if p.is_file())
    assert not [token for token in identity.TOKENS if token.encode() in content]

    # killed after a report and before its row: the study is analysed again, and its report replaced
    journal = tmp_path / "t.parquet.journal" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    out.unlink()
    assert cli.main([*map(str, arguments)]) == 0
    assert len(parquet.read_table(out)) == 3
    assert {folder.name for folder in reports.iterdir()} == labels
    capsys.readouterr()
    other = [str(tmp_path / "others") if a == reports else str(a) for a in arguments]
    assert cli.main(other) == 2
    assert "of other options" in capsys.readouterr().err


def test_a_root_without_files_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "archive" / "empty").mkdir(parents=True)
    with pytest.raises(StudyError, match="archive holds no file, expected echo recordings"):
        analyze_archive(tmp_path / "archive", out=tmp_path / "t.parquet", config=BatchConfig(), make=make_sizes)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]
