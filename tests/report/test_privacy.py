"""Nothing that is written says who the patient is: every byte of it, decompressed and decoded, and every picture."""

import base64
import gzip
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cardiojax import cli, data, zoo
from cardiojax.analysis.grid import make_grid
from cardiojax.analysis.privacy import visible_part
from cardiojax.analysis.sector import find_sector
from cardiojax.analysis.warnings import recording_findings
from cardiojax.archive.worker import GRID_SIZES
from tests.helpers import identity
from tests.helpers.identity import FOLDER, STEM, TOKENS, WRITERS

#: Pixels of text and a margin, for the blur of codecs.
TEXT = ndimage.binary_dilation(identity.text() & ~identity.fan(), iterations=1) & ~identity.fan()
#: Replaced by a name in the file: pydicom writes none as a number.
NOT_A_NUMBER = "1234567890"


@pytest.fixture(scope="module")
def weights(tmp_path_factory, fill):
    """A tiny network that finds nothing, so that pictures show the frames alone."""
    path = tmp_path_factory.mktemp("weights") / FOLDER / "own.safetensors"
    path.parent.mkdir()
    params = fill(zoo.abstract_variables("unet_camus", features=(4, 8)))["params"]
    last = params["head"]["bias"] if "head" in params else None
    if last is not None:
        params["head"]["bias"] = last.at[0].set(1e3)
    zoo.save(path, "unet_camus", params, features=(4, 8))
    return path


def contents(content: bytes):
    """What bytes hold: themselves, what they compress, and what is written in them as base64 or in hexadecimal."""
    yield content
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    for encoded in re.findall(rb"[A-Za-z0-9+/]{40,}={0,2}", content):
        yield base64.b64decode(encoded + b"=" * (-len(encoded) % 4))


def pictures(content: bytes):
    """Every frame of every picture in some bytes, grey ``[h, w]``."""
    for part in contents(content):
        if part[:8] == b"\x89PNG\r\n\x1a\n" or part[:4] == b"RIFF" or part[:3] == b"\xff\xd8\xff":
            picture = Image.open(io.BytesIO(part))
            for index in range(getattr(picture, "n_frames", 1)):
                picture.seek(index)
                yield np.asarray(picture.convert("L"))


def tokens_in(content: bytes) -> list[str]:
    """Tokens in any encoding, in reversed order of bytes too, whatever their case."""
    found = []
    for part in contents(content):
        lower = part.lower()
        found += [t for t in TOKENS for code in ("utf-8", "utf-16-le", "utf-16-be") if t.lower().encode(code) in lower]
    return found


def run(tmp_path, capsys, suffix, weights, *options, num_frames=4, **stated):
    folder = tmp_path / FOLDER
    folder.mkdir()
    path = WRITERS[suffix](folder / f"{STEM}{suffix}", identity.frames(num_frames), **stated)
    path.write_bytes(path.read_bytes().replace(NOT_A_NUMBER.encode(), b"Mustermann"))
    arguments = [str(path), "--out", str(tmp_path / "out"), "--weights", str(weights), "--size", "32"]
    arguments += ["--batch-size", "4", "--no-anatomical-correction", "--no-temporal-correction", "--view", "4CH"]
    arguments += options
    assert cli.main(["analyze", *arguments]) == 0
    captured = capsys.readouterr()
    written = {p.name: p.read_bytes() for p in sorted((tmp_path / "out").rglob("*")) if p.is_file()}
    assert written
    return written | {"stdout": captured.out.encode(), "stderr": captured.err.encode()}


@pytest.mark.parametrize(
    ("suffix", "stated"),
    [
        (".dcm", {"burned_in": "YES"}),
        (".dcm", {"burned_in": "NO"}),
        (".dcm", {"burned_in": None, "FrameTime": NOT_A_NUMBER, "NumberOfFrames": "1"}),
        (".mp4", {}),
        (".nii.gz", {}),
        (".png", {}),
    ],
)
def test_nothing_written_identifies_the_patient(tmp_path, capsys, weights, suffix, stated):
    written = run(tmp_path, capsys, suffix, weights, **stated)
    assert {name: tokens_in(content) for name, content in written.items() if tokens_in(content)} == {}
    assert not any(str(tmp_path).encode() in content for name, content in written.items() if name != "stdout")
    top, bottom, left, right = json.loads(written["measurements.json"])["recording"]["sector_box"]
    text, fan = (mask[top:bottom, left:right] for mask in (TEXT, identity.fan()))  # pictures show the box of the sector
    shown = list(pictures(written["report.html"]))
    for picture in shown:
        scaled = np.asarray(Image.fromarray(text).resize(picture.shape[::-1]))
        assert picture[ndimage.binary_erosion(scaled, iterations=2)].max(initial=0) < 12
    of_frames = [picture for picture in shown if picture.shape == text.shape]
    assert len(of_frames) >= len(shown) / 2  # the others are uncertainty maps, which are smaller
    assert max(picture[fan].mean() for picture in of_frames) > 40  # the ultrasound is shown


def test_dicom_objects_name_the_patient_only_where_asked(tmp_path, capsys, weights):
    pytest.importorskip("highdicom", reason="needs cardiojax[dicom]")
    written = run(tmp_path, capsys, ".dcm", weights, "--dicom")
    assert tokens_in(written["structured_report.dcm"]) == []
    assert b"no DICOM segmentation, 4CH: Nothing is outlined in it." in written["stdout"]
    (tmp_path / "kept").mkdir()
    written = run(tmp_path / "kept", capsys, ".dcm", weights, "--dicom", "--keep-identity")
    assert {"Mustermann", "PID4711", "19520317"} <= set(tokens_in(written["structured_report.dcm"]))
    assert tokens_in(written["measurements.json"]) == []


def test_names_are_shown_where_asked(tmp_path, capsys, weights):
    written = run(tmp_path, capsys, ".png", weights, "--keep-names")
    assert STEM.encode() in written["report.html"]
    assert STEM.encode() in written["measurements.json"]


def test_a_refused_file_says_why_without_its_text(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir()
    scan = identity.write_dicom(folder / "a.dcm", identity.frames(2), Modality="MUSTERMANN")
    (folder / "b.mhd").write_text("DimSize = 4 4\nElementType = MET_UCHAR\nElementDataFile = Mustermann.raw\n")
    np.savez(folder / "c.npz", Mustermann=np.zeros((4, 4)), Erika=np.zeros((4, 4)))
    (folder / f"{STEM}.png").write_bytes(b"\x89PNG\r\n\x1a\nMustermann")
    for path in (scan, folder / "b.mhd", folder / "c.npz", folder / f"{STEM}.png"):
        with pytest.raises(data.UnreadableFileError) as error:
            data.read(path)
        assert error.value.problem
        assert tokens_in(error.value.problem.encode()) == []
        assert path.name in str(error.value)


@pytest.mark.parametrize("num_frames", [1, 2, 10])
def test_what_is_shown_is_the_sector_without_text(num_frames):
    frames = identity.frames(num_frames) / np.float32(255)
    visible = visible_part(frames, find_sector(frames))
    assert not (visible & ~identity.fan() & identity.text()).any()
    assert visible[identity.fan()].mean() > 0.97


def test_without_a_sector_a_still_is_black_unless_its_file_denies_text():
    frames = np.random.default_rng(0).random((2, 80, 80)).astype(np.float32)
    frames[:, 5:25, 10:60] = np.random.default_rng(1).integers(0, 2, (20, 50))  # text
    sector = find_sector(frames)
    assert not sector.is_found
    assert not visible_part(frames, sector, burned_in=True).any()
    visible = visible_part(frames, sector)
    assert visible.mean() > 0.7
    assert not visible[12:18, 12:58].any()
    assert not visible_part(frames[:1], sector).any()
    assert visible_part(frames[:1], sector, burned_in=False).all()


@pytest.mark.parametrize("sizes", [(), GRID_SIZES])
@pytest.mark.parametrize(
    ("num_frames", "burned_in", "shown", "is_black"),
    [
        (1, None, 0.0, True),
        (1, True, 0.0, True),
        (1, False, 1.0, False),
        (9, True, 0.0, True),
        (9, None, 0.83, False),
    ],
)
def test_without_a_sector_a_padded_grid_shows_no_more(sizes, num_frames, burned_in, shown, is_black):
    frames = np.random.default_rng(0).uniform(0.2, 0.8, (num_frames, 400, 500)).astype(np.float32)
    frames[:, 100:200, 80:420] = 1.0  # where a name is
    recording = data.Recording(frames, (0.5, 0.5), None, "drawn", burned_in=burned_in)
    sector = find_sector(frames)
    grid = make_grid(sector, (400, 500), max_size=640, sizes=sizes)
    sector = grid.reduce_sector(sector)
    assert not sector.is_found
    visible = visible_part(grid.reduce(frames), sector, burned_in=burned_in)
    assert visible.sum() / (400 * 500) == pytest.approx(shown, abs=0.005)
    if burned_in is not False:
        assert not grid.enlarge(visible)[105:195, 85:415].any()
    reasons = " ".join(finding.reason for finding in recording_findings(recording, sector, grid))
    assert ("Pictures are black" in reasons) is is_black
    assert "pictures show the sector only" not in reasons


def test_what_is_saturated_in_both_of_two_stills_is_shown():
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:120, :160]
    sector = (np.hypot(rows, cols - 80) < 110) & (np.abs(cols - 80) < 0.8 * rows + 5)
    frames = np.where(sector, 0.2 + 0.3 * rng.random((2, 120, 160)), 0).astype(np.float32)
    frames[:, sector & (rows > 60) & (cols < 70)] = 1.0
    visible = visible_part(frames, find_sector(frames))
    assert visible[sector].mean() > 0.98
