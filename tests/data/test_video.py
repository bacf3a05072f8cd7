"""Videos: what FFmpeg wrote comes back upright and in full range, losses are counted, and nothing else is opened."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from cardiojax import data
from cardiojax.data.formats import common

LEVELS = np.arange(0, 256, 17, dtype=np.uint8)


def moving(num_frames=24, height=32, width=48):
    """A texture that moves, so that no frame is like another."""
    texture = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)
    return np.stack([np.roll(texture, t, 1) for t in range(num_frames)])


def encode(path, frames, codec="mjpeg", pixels="yuvj420p", source="gray", ticks=None, options=None, **container):
    """Writes frames ``[t, h, w]`` or ``[t, h, w, 3]``; ``ticks`` are their times in units of 1/25 s."""
    with av.open(str(path), "w", options=container) as output:
        stream = output.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, 25)
        for t, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format=source)
            picture.pts, picture.time_base = int(t if ticks is None else ticks[t]), Fraction(1, 25)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path


def with_display_matrix(path, a, b, c, d):
    """Writes the linear part of the display matrix into the track header of an MP4."""
    content = path.read_bytes()
    old = struct.pack(">9i", 2**16, 0, 0, 0, 2**16, 0, 0, 0, 2**30)
    new = struct.pack(">9i", *(int(v * 2**16) for v in (a, b, 0, c, d, 0, 0, 0)), 2**30)
    track = content.index(b"tkhd")
    path.write_bytes(content[:track] + content[track:].replace(old, new, 1))


def test_coloured_pixels_are_found_and_turned_with_the_frames(tmp_path):
    frames = moving()[..., None].repeat(3, -1)
    frames[:, :16, :24] = (250, 60, 0)
    path = encode(tmp_path / "x.mp4", frames, codec="mpeg4", pixels="yuv420p", source="rgb24")
    with_display_matrix(path, -1, 0, 0, 1)  # mirrored
    coloured = data.read(path).coloured
    assert coloured[:16, 24:].mean() > 0.9
    assert coloured.mean() < 0.3


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),  # by 90 degrees clockwise
        ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), np.transpose),
    ],
)
def test_the_display_matrix_is_applied(tmp_path, matrix, turn):
    frames = np.zeros((2, 32, 48), np.uint8)
    frames[:, :8, :16] = 255  # top left
    frames[:, 24:, :8] = 128  # bottom left
    path = encode(tmp_path / "x.mp4", frames)
    with_display_matrix(path, *matrix)
    recording = data.read(path)
    np.testing.assert_allclose(recording.frames[0], turn(frames[0]) / 255, atol=0.05)
    assert recording.notes == ()


def test_an_odd_rotation_is_noted_and_not_applied(tmp_path):
    path = encode(tmp_path / "x.mp4", moving(2))
    with_display_matrix(path, 0.7, 0.7, -0.7, 0.7)
    assert "not by right angles" in data.read(path).notes[0]


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("limited.mp4", "mpeg4", "yuv420p"),
        ("limited.mkv", "ffv1", "yuv420p"),
        ("deep.mkv", "ffv1", "yuv420p10le"),
        ("full.avi", "mjpeg", "yuvj420p"),
        ("full.mp4", "mjpeg", "yuvj444p"),
        ("grey.avi", "ffv1", "gray"),
        ("raw.avi", "rawvideo", "yuv420p"),
        ("colours.avi", "rawvideo", "bgr24"),
        ("png.avi", "png", "rgb24"),
    ],
)
def test_black_is_zero_and_white_is_one_in_either_range(tmp_path, name, codec, pixels):
    bars = np.broadcast_to(np.repeat(LEVELS, 16), (2, 32, 256)).copy()
    recording = data.read(encode(tmp_path / name, bars, codec, pixels, options={"qmin": "1", "q": "1"}))
    np.testing.assert_allclose(recording.frames[0, 16, 8::16], LEVELS / 255, atol=0.012)


def test_colours_and_palettes_become_luma(tmp_path):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [80, 80, 80]], np.uint8)
    bars = np.broadcast_to(np.repeat(colours, 16, 0), (1, 32, 64, 3)).copy()
    expected = colours @ [0.299, 0.587, 0.114] / 255
    recording = data.read(encode(tmp_path / "x.avi", bars, "png", "rgb24", source="rgb24"))
    np.testing.assert_allclose(recording.frames[0, 16, 8::16], expected, atol=0.01)
    palette = np.zeros((256, 4), np.uint8)  # alpha, red, green, blue
    palette[:, 0], palette[:4, 1:] = 255, colours
    indices = np.repeat(np.arange(4, dtype=np.uint8), 16) * np.ones((32, 1), np.uint8)
    with av.open(str(tmp_path / "p.avi"), "w") as output:
        stream = output.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "pal8"
        output.mux(stream.encode(av.VideoFrame.from_ndarray((indices, palette), format="pal8")))
        output.mux(stream.encode(None))
    np.testing.assert_allclose(data.read(tmp_path / "p.avi").frames[0, 16, 8::16], expected, atol=0.01)


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.avi"])
def test_every_frame_comes_in_order_with_its_time(tmp_path, name):
    frames = np.repeat(np.arange(24, dtype=np.uint8) * 10, 32 * 48).reshape(24, 32, 48)
    path = encode(tmp_path / name, frames, "libx264", "yuv420p", options={"bf": "3"})  # stored out of order
    recording = data.read(path)
    np.testing.assert_allclose(recording.frames.mean((1, 2)), np.arange(24) * 10 / 255, atol=0.02)
    assert recording.frame_time == pytest.approx(1 / 25)
    assert recording.notes == ()


def test_the_frame_time_is_that_of_the_stamps_not_the_mean_rate(tmp_path):
    ticks = np.arange(24) + np.where(np.arange(24) > 20, 15, 0)  # a pause before the last frames
    recording = data.read(encode(tmp_path / "x.mp4", moving(), ticks=ticks))
    assert recording.frame_time == pytest.approx(1 / 25)
    assert "irregular" in recording.notes[0]
    ticks = np.cumsum(1 + np.arange(24) % 3)
    assert data.read(encode(tmp_path / "y.mp4", moving(), ticks=ticks)).frame_time is None


def test_a_loop_cut_by_an_edit_list_misses_nothing(tmp_path):
    path = encode(tmp_path / "x.mp4", moving())
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12
    content[at : at + 4] = struct.pack(">I", int.from_bytes(content[at : at + 4]) // 2)
    path.write_bytes(content)
    recording = data.read(path)
    assert len(recording.frames) == 12
    assert recording.notes == ()


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.avi"])
def test_a_file_that_ends_early_gives_what_it_has_and_counts_the_rest(tmp_path, name):
    frames = moving(25)
    options = {"movflags": "faststart"} if name == "x.mp4" else {}
    path = encode(tmp_path / name, frames, **options)
    whole = data.read(path).frames
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    recording = data.read(path)
    num_read = len(recording.frames)
    assert 10 <= num_read <= 16
    np.testing.assert_array_equal(recording.frames[:-1], whole[: num_read - 1])
    assert f"{25 - num_read} of the 25 frames" in recording.notes[0]


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.avi"])
@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
def test_damage_within_a_file_is_noted(tmp_path, name, codec):
    path = encode(tmp_path / name, moving(25), codec, "yuvj420p" if codec == "mjpeg" else "yuv420p")
    content = bytearray(path.read_bytes())
    start = len(content) * 2 // 5
    content[start : start + len(content) // 5] = bytes(len(content) // 5)
    path.write_bytes(content)
    recording = data.read(path)
    assert 1 <= len(recording.frames) <= 25
    assert any("missing" in note or "damaged" in note for note in recording.notes)


def test_frames_of_another_size_are_left_out(tmp_path):
    small, large = moving(4), moving(6, 64, 64)
    parts = [encode(tmp_path / f"{i}.mkv", part) for i, part in enumerate((large, small))]
    with av.open(str(tmp_path / "x.mkv"), "w") as output:
        stream = output.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        time = 0
        for part in parts:
            with av.open(str(part)) as container:
                for packet in container.demux(video=0):
                    if packet.size:
                        packet.stream, packet.pts, packet.dts = stream, time, time
                        time += 40
                        output.mux(packet)
    recording = data.read(tmp_path / "x.mkv")
    assert recording.frames.shape == (6, 64, 64)
    assert "4 frames of another size" in recording.notes[0]


def test_nothing_to_decode_is_one_sentence(tmp_path):
    path = encode(tmp_path / "x.mp4", moving(5), movflags="faststart")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 4])
    with pytest.raises(data.UnreadableFileError, match="no frame that can be decoded"):
        data.read(path)


@pytest.mark.parametrize("name", ["http:x.mp4", "concat:y.mp4", "12:30:05.mp4", "file:x.mp4", "pipe:0", "%d.mp4"])
def test_a_name_is_no_address(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / "x.mp4", moving(3)).rename(name)
    assert len(data.read(name).frames) == 3
    with pytest.raises(data.UnreadableFileError, match="No such file"):
        data.read(f"http:{name}")


def test_a_playlist_is_no_video(tmp_path):
    encode(tmp_path / "x.mp4", moving(3))
    for name, text in (("a.mp4", "ffconcat version 1.0\nfile x.mp4\n"), ("b.mp4", "#EXTM3U\n#EXTINF:1\nx.mp4\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(data.UnreadableFileError, match="no format known"):
            data.read(tmp_path / name)


def test_sizes_are_checked_before_memory_is_taken(tmp_path, monkeypatch):
    wide = encode(tmp_path / "wide.mp4", np.zeros((1, 4200, 4200), np.uint8))
    with pytest.raises(data.UnreadableFileError, match="pixels, expected at least one and at most"):
        data.read(wide)
    path = encode(tmp_path / "long.mp4", moving(24))
    monkeypatch.setattr(common, "MAX_DECODED_BYTES", 10 * 32 * 48 * 4)
    with pytest.raises(data.UnreadableFileError, match="would decode to"):
        data.read(path)


@pytest.mark.parametrize(("table", "flags"), [(b"stsz", {}), (b"trun", {"movflags": "frag_keyframe+empty_moov"})])
def test_stated_sample_counts_are_checked_before_they_are_indexed(tmp_path, table, flags):
    path = encode(tmp_path / "x.mp4", moving(5), **flags)
    content = bytearray(path.read_bytes())
    at = content.index(table) + (12 if table == b"stsz" else 8)
    content[at : at + 4] = struct.pack(">I", 2 * 10**9)
    path.write_bytes(content)
    with pytest.raises(data.UnreadableFileError, match=r"states 200000\d+ samples"):
        data.read(path)
