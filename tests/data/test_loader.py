"""The Grain pipeline: determinism, exact resumption, shares of processes, padding."""

import io
import itertools
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiojax.data.arrays import ArraySource, camus_224, stack_examples
from cardiojax.data.loader import LoaderConfig, make_loader


def source(n):
    return ArraySource({"image": np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2), "index": np.arange(n)})


def test_stacking_the_examples_inverts_a_source_of_arrays():
    arrays = {"x": np.arange(6).reshape(3, 2), "name": np.array(["a", "b", "c"])}
    for stacked, n in ((stack_examples(ArraySource(arrays)), 3), (stack_examples(ArraySource(arrays), limit=2), 2)):
        assert stacked.keys() == arrays.keys()
        for name, values in arrays.items():
            np.testing.assert_array_equal(stacked[name], values[:n])


def test_stacking_decodes_bytes_and_refuses_an_empty_source():
    assert stack_examples([{"name": b"4CH"}])["name"].tolist() == ["4CH"]
    with pytest.raises(ValueError, match="no example"):
        stack_examples([])


def take(loader, n):
    return [batch["index"].tolist() for batch in itertools.islice(loader, n)]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def test_order_depends_on_the_seed_alone_and_changes_with_the_epoch():
    config = LoaderConfig(batch_size=4, seed=3)
    first, again = (take(make_loader(source(12), config), 6) for _ in range(2))
    other = take(make_loader(source(12), LoaderConfig(batch_size=4, seed=4)), 6)
    assert first == again != other
    epochs = [flat(first[:3]), flat(first[3:])]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("position", range(8))
def test_a_restored_position_continues_exactly(position):
    config = LoaderConfig(batch_size=4, seed=1)
    whole = take(make_loader(source(14), config), 8)
    loader = make_loader(source(14), config)
    take(loader, position)
    state = loader.get_state()
    take(loader, 2)
    resumed = make_loader(source(14), config)
    resumed.set_state(state)
    assert take(resumed, 8 - position) == whole[position:]


def test_the_remainder_left_out_is_another_in_each_epoch():
    batches = take(make_loader(source(10), LoaderConfig(batch_size=4, seed=0)), 20)
    assert set(flat(batches)) == set(range(10))


@given(n=st.integers(1, 40), batch_size=st.integers(1, 7), process_count=st.integers(1, 4), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_processes_share_everything_once(n, batch_size, process_count, seed):
    config = LoaderConfig(batch_size=batch_size, seed=seed, num_epochs=1, drop_remainder=False)
    shares = [
        list(make_loader(source(n), config, process_index=p, process_count=process_count)) for p in range(process_count)
    ]
    assert len({len(share) for share in shares}) == 1
    batches = flat(shares)
    assert all(batch["image"].shape == (batch_size, 2, 2) for batch in batches)
    seen = [i for batch in batches for i, w in zip(batch["index"], batch["weight"], strict=True) if w]
    assert sorted(seen) == list(range(n))
    assert sum(float(batch["weight"].sum()) for batch in batches) == n


def test_images_of_other_sizes_are_padded_with_zeros():
    class Ragged:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return {"image": np.full((2 + index, 4 - index), index + 1)}

    (batch,) = make_loader(Ragged(), LoaderConfig(batch_size=2, shuffle=False, num_epochs=1))
    assert batch["image"].shape == (2, 3, 4)
    assert batch["image"][0].sum() == 8
    assert batch["image"][1, :3, :3].sum() == 18 == batch["image"][1].sum()


def test_too_few_examples_are_refused():
    with pytest.raises(ValueError, match="3 examples for 1 processes give no batch of 4"):
        make_loader(source(3), LoaderConfig(batch_size=4))


def test_camus_arrays(tmp_path):
    arrays = {
        "image": np.zeros((2, 3, 3), np.uint8),
        "label": np.ones((2, 3, 3), np.uint8),
        "patient": np.array(["patient0001", "patient0002"]),
        "view": np.array(["2CH", "4CH"]),
        "phase": np.array(["ED", "ES"]),
        "spacing_rc_mm": np.array([[0.5, 0.6], [0.7, 0.8]]),
    }
    path = tmp_path / "camus.npz"
    np.savez(path, **arrays)
    example = camus_224(path)[1]
    assert (example["patient"], example["view"], example["phase"]) == ("patient0002", "4CH", "ES")
    np.testing.assert_allclose(example["spacing"], [0.7, 0.8])
    del arrays["view"]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="view missing"):
        camus_224(path)
    path.write_bytes(b"PK broken")
    with pytest.raises(ValueError, match=r"not a readable \.npz"):
        camus_224(path)
    with pytest.raises(ValueError, match="no such file"):
        camus_224(tmp_path / "absent.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(ValueError, match="is a folder, pipe or device"):
        camus_224(tmp_path / "pipe.npz")


FRAMES = {
    "image": np.zeros((2, 3, 3), np.uint8),
    "label": np.ones((2, 3, 3), np.uint8),
    "patient": np.array(["a", "a"]),
    "view": np.array(["2CH", "2CH"]),
    "phase": np.array(["ED", "ES"]),
    "spacing_rc_mm": np.full((2, 2), 0.5),
}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *(
            ("label", np.full((2, 3, 3), v), f"label {v} in frame 0, expected 0 to 3")
            for v in (4, 255, -1, 1.5, np.nan)
        ),
        ("label", np.full((2, 3, 3), "1"), "expected whole numbers as labels, got <U1"),
        *(("spacing_rc_mm", np.array([[0.5, 0.5], [0.5, v]]), "of frame 1, expected") for v in (0, -0.5, np.nan, 1e9)),
        ("spacing_rc_mm", np.full(2, 0.5), r"spacing_rc_mm of shape \[2, 2\], got \[2\]"),
        ("phase", np.array(["ED", "E"]), "phase 'E', expected ED or ES"),
        ("patient", np.array(["a"]), r"patient of shape \[2\], got \[1\]"),
        ("image", np.zeros((2, 3, 3)), "expected uint8 images"),
    ],
)
def test_frames_are_checked_once_when_they_are_opened(tmp_path, name, value, message):
    np.savez(tmp_path / "frames.npz", **{**FRAMES, name: value})
    with pytest.raises(ValueError, match=message):
        camus_224(tmp_path / "frames.npz")


def test_whole_numbers_of_any_type_are_labels(tmp_path):
    np.savez(tmp_path / "frames.npz", **{**FRAMES, "label": np.full((2, 3, 3), 2.0), "phase": np.array([b"ED", b"ES"])})
    example = camus_224(tmp_path / "frames.npz")[0]
    assert example["label"].dtype == np.uint8
    assert example["phase"] == "ED"


def test_an_archive_that_would_not_fit_in_memory_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", **{**FRAMES, "image": np.zeros((1, 1 << 14, 1 << 14), np.uint8)})
    monkeypatch.setattr("cardiojax.data.formats.common.MAX_DECODED_BYTES", 1 << 27)
    with pytest.raises(ValueError, match=r"holds 0\.2 GiB, expected at most 0\.125"):
        camus_224(tmp_path / "bomb.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 3, 3)})
    np.savez(tmp_path / "lie.npz", **{k: v for k, v in FRAMES.items() if k != "image"})
    with zipfile.ZipFile(tmp_path / "lie.npz", "a") as archive:
        archive.writestr("image.npy", header.getvalue())
    with pytest.raises(ValueError, match=r"holds 9216\.0 GiB"):
        camus_224(tmp_path / "lie.npz")


@pytest.mark.parametrize(("field", "value"), [("batch_size", 0), ("seed", 99999999999999999999), ("num_epochs", 0)])
def test_absurd_options_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} must be .*, got {value}"):
        LoaderConfig(**{field: value})
