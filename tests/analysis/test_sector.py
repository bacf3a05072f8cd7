"""The sector is found on screens of any grey, beside text, an ECG, panels and other images."""

import numpy as np
import pytest

from cardiojax import data
from cardiojax.analysis.sector import crop, find_sector, spacing_of_sector

HEIGHT, WIDTH, NUM_FRAMES = 240, 320, 6
GREYS = (0, 8, 30, 255)


def fan(apex_row, apex_col, radius, height=HEIGHT, width=WIDTH):
    """A fan of 80 degrees that opens downwards."""
    rows, cols = np.mgrid[:height, :width] - np.array([apex_row, apex_col])[:, None, None]
    return (np.hypot(rows, cols) < radius) & (np.abs(np.degrees(np.arctan2(cols, rows))) < 40) & (rows > 8)


def screen(grey, masks, *, num_frames=NUM_FRAMES, seed=0):
    """A loop of speckle in fans on a screen of one grey, with text, a scale, a grey bar and an ECG."""
    rng = np.random.default_rng(seed)
    frames = np.full((num_frames, HEIGHT, WIDTH), grey / 255, np.float32)
    ink = 0.0 if grey > 127 else 1.0
    frames[:, 4:10, 4:80:3] = ink  # text
    frames[:, 60:200:10, :4] = ink  # scale
    frames[:, 40:120, 314:319] = np.linspace(1, 0, 80)[:, None]  # grey bar
    for t in range(num_frames):
        trace = (225 + 8 * np.sin(np.arange(WIDTH) / 9 + t)).astype(int)
        frames[t, trace, np.arange(WIDTH)] = ink  # an ECG that moves
    for mask in masks:
        frames[:, mask] = (0.5 * rng.rayleigh(0.4, (num_frames, int(mask.sum())))).clip(0, 1)
    return frames


def box_of(mask):
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return rows[0], rows[-1] + 1, cols[0], cols[-1] + 1


@pytest.mark.parametrize("grey", GREYS)
def test_the_fan_is_found_on_a_screen_of_any_grey(grey):
    mask = fan(10, 160, 190)
    sector = find_sector(screen(grey, [mask]))
    np.testing.assert_allclose(sector.box, box_of(mask), atol=2)
    top, bottom, left, right = sector.box
    assert (sector.mask == mask[top:bottom, left:right]).mean() > 0.98
    assert sector.notes == ()


def test_the_same_pixels_reach_the_model_on_every_screen():
    mask = fan(10, 160, 190)
    first, *others = (screen(grey, [mask]) for grey in GREYS)
    expected = crop(first, find_sector(first))
    for frames in others:
        sector = find_sector(frames)
        assert sector.box == find_sector(first).box
        assert (np.abs(crop(frames, sector) - expected) > 0.02).mean() < 0.02


@pytest.mark.parametrize("grey", GREYS)
def test_a_still_has_the_same_sector_without_change_over_time(grey):
    mask = fan(10, 160, 190)
    sector = find_sector(screen(grey, [mask], num_frames=1))
    np.testing.assert_allclose(sector.box, box_of(mask), atol=3)


@pytest.mark.parametrize("turns", range(4))
def test_a_fan_that_the_frame_cuts_reaches_its_edge(turns):
    mask = np.rot90(fan(-20, 400, 640, height=600, width=800), turns)
    frames = np.zeros((4, *mask.shape), np.float32)
    frames[:, mask] = np.random.default_rng(0).uniform(0.1, 1, (4, int(mask.sum())))
    assert mask[0].any()
    assert mask[-1].any()
    sector = find_sector(frames)
    height, width = mask.shape
    assert sector.box == (0, height, 0, width)
    assert (sector.mask == mask).all()


@pytest.mark.parametrize("grey", GREYS)
def test_what_moves_is_chosen_and_not_a_larger_panel(grey):
    mask = fan(40, 235, 110)
    frames = screen(grey, [mask])
    frames[:, 20:200, 5:150] = np.random.default_rng(1).uniform(0, 1, (180, 145))  # a picture that does not move
    sector = find_sector(frames)
    np.testing.assert_allclose(sector.box, box_of(mask), atol=3)
    assert sector.notes == ()


def test_of_two_moving_images_the_larger_is_taken_and_the_choice_is_reported():
    small, large = fan(30, 60, 100), fan(10, 220, 190)
    large &= ~fan(30, 60, 110)
    sector = find_sector(screen(0, [small, large]))
    np.testing.assert_allclose(sector.box, box_of(large), atol=3)
    equal = [fan(30, 70, 100), fan(30, 230, 100)]
    sector = find_sector(screen(30, equal))
    assert "2 ultrasound images" in sector.notes[0]
    assert "at the right" in sector.notes[0]  # the more central one
    np.testing.assert_allclose(sector.box, box_of(equal[1]), atol=3)


def test_a_static_texture_behind_the_fan_is_left_out():
    mask = fan(10, 160, 190)
    frames = screen(0, [])
    frames[:] = np.linspace(0.1, 0.6, WIDTH)  # no level is that of the background
    moving = screen(0, [mask])
    frames[:, mask] = moving[:, mask]
    np.testing.assert_allclose(find_sector(frames).box, box_of(mask), atol=4)


def test_stated_regions_part_images_that_touch_and_are_ignored_where_they_do_not_fit():
    speckle = np.random.default_rng(0).uniform(0.1, 1, (4, 100, 200)).astype(np.float32)
    frames = np.zeros((4, 120, 240), np.float32)
    frames[:, 10:110, 20:220] = speckle
    left, right = (
        data.Region((10, 110, *columns), data_type=1, spatial_format=1, spacing=(s, s))
        for columns, s in (((20, 100), 0.5), ((100, 220), 0.3))
    )
    assert find_sector(frames).box == (10, 110, 20, 220)
    sector = find_sector(frames, regions=(left, right))
    assert sector.box == (10, 110, 100, 220)
    assert data.spacing_of_box((left, right), sector.box) == (0.3, 0.3)
    spectrum = left._replace(spatial_format=3)
    assert find_sector(frames, regions=(spectrum, right)).box == (10, 110, 20, 220)  # cuts more than a quarter off
    other_size = left._replace(box=(0, 30, 0, 60))
    found = find_sector(frames, regions=(other_size,))
    assert found.box == (10, 110, 20, 220)
    assert not found.fits_regions


@pytest.mark.parametrize(("factor", "fits"), [(1.0, True), (1.15, False), (1.25, False)])
def test_an_image_above_or_left_of_its_region_was_reduced(factor, fits):
    mask = fan(HEIGHT // 4, WIDTH // 2, HEIGHT // 2)
    top, bottom, left, right = box_of(mask)
    region = data.Region(tuple(int(factor * n) for n in (top, bottom, left, right)), 1, 1, (0.5, 0.5))
    loop = screen(0.0, [mask])
    found = find_sector(loop, regions=(region,))
    assert found.fits_regions is fits
    assert any("not within the ultrasound regions" in note for note in found.notes) is not fits
    np.testing.assert_allclose(found.box, box_of(mask), atol=4)
    assert find_sector(loop[:1], regions=(region,)).fits_regions  # in a still it may be an overlay


def test_a_frame_without_background_is_analysed_whole_and_that_is_reported():
    frames = np.random.default_rng(0).uniform(0, 1, (4, 60, 80)).astype(np.float32)
    sector = find_sector(frames)
    assert sector.box == (0, 60, 0, 80)
    assert "whole frame" in sector.notes[0]
    dot = np.zeros((2, 60, 80), np.float32)
    dot[:, 30, 30] = 1
    assert find_sector(dot).box == (0, 60, 0, 80)
    assert find_sector(dot).notes
    assert find_sector(dot * 0).notes == ()
    assert not any(find_sector(each).is_found for each in (frames, dot, dot * 0))


@pytest.mark.parametrize("border", [0, 12])
def test_a_frame_whose_image_is_larger_than_its_regions_has_no_spacing(border):
    frames = np.zeros((6, 200, 200), np.float32)
    inside = slice(border, 200 - border)
    size = 200 - 2 * border
    frames[:, inside, inside] = np.random.default_rng(0).uniform(0.1, 1, (6, size, size))
    region = data.Region((0, 100, 0, 100), data_type=1, spatial_format=1, spacing=(0.2, 0.2))
    recording = data.Recording(frames, (0.2, 0.2), None, "drawn", regions=(region,))
    sector = find_sector(frames, regions=recording.regions)
    assert sector.is_found is (border > 0)
    assert "not within the ultrasound regions" in sector.notes[-1]
    assert spacing_of_sector(recording, sector) is None
    held = (region._replace(box=(0, 200, 0, 200)),)
    sector = find_sector(frames, regions=held)
    assert spacing_of_sector(recording._replace(regions=held), sector) == (0.2, 0.2)


def test_real_loops_keep_their_sector_on_a_grey_screen(data_dir):
    frames = data.read(data.example_path()).frames
    assert frames.shape[1:] == (240, 320)
    expected = find_sector(frames)
    assert expected.box == (21, 206, 63, 253)
    top, bottom, left, right = expected.box
    inside = np.zeros((240, 320), bool)
    inside[top:bottom, left:right] = expected.mask
    for grey in GREYS[1:]:
        sector = find_sector(np.where(inside, frames, np.float32(grey / 255)))
        np.testing.assert_allclose(sector.box, expected.box, atol=2)
    loop = data.read(data_dir / "echo_cine" / "alax_ntnu_echotracker_input1.mp4").frames
    assert find_sector(loop).box == (0, 584, 6, 626)
