"""The phantom: known answers of its motion, its masks and its pictures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import points_in_poly

from cardiojax import anatomy, cli, clinical
from cardiojax.data import phantom
from cardiojax.data.phantom import scanner, scatterers
from cardiojax.data.phantom.motion import NUM_WALL, contour_volume, move
from cardiojax.data.phantom.raster import label_polygons, rasterize
from cardiojax.labels import MEASURED_VIEWS

GE = phantom.VENDORS["ge_like"]
SHAPE = (48, 48)


moved = jax.jit(move)
draw_heart = functools.partial(jax.jit(phantom.sample_heart), jax.random.key(2), ejection_fraction=55.0)


@pytest.fixture(scope="module")
def patients():
    """Some of each pathology, drawn as the dataset draws them."""
    draw = jax.jit(jax.vmap(functools.partial(phantom.sample_patient, abnormal=0.75)))
    drawn = draw(jax.random.split(jax.random.key(3), 16))
    assert set(np.unique(drawn.pathology)) == set(range(4))
    return drawn


@pytest.fixture(scope="module")
def masks(patients):
    """Three phases of both views at 224 x 224, ``[n, view, t, h, w]``, their spacing, and the contours' volumes."""

    @jax.jit
    def draw(patient):
        half = jnp.deg2rad(GE.half_angle)
        spacing = patient.heart.depth * jnp.stack([1 / 223, 2 * jnp.sin(half) / 223])

        def one_view(phases):
            options = {"ejection_fraction": patient.ejection_fraction, "akinesia": patient.akinesia}
            contours = move(phases, jnp.array([1.0, 0.4, 0.0]), **options)
            labels = rasterize(contours, (224, 224), spacing, patient.heart.depth)
            return labels, contour_volume(contours[:, :NUM_WALL])

        labels, volume = jax.lax.map(one_view, patient.heart.contours)
        return labels, spacing, volume

    return jax.lax.map(draw, patients)


@pytest.fixture(scope="module")
def record():
    """A small compiled simulation."""
    return jax.jit(functools.partial(phantom.simulate, num_frames=3, shape=SHAPE, frame_rate=8.0, num_scatterers=4_000))


@pytest.fixture(scope="module")
def heart():
    return draw_heart()


def test_asked_ejection_fraction_is_measured(patients, masks):
    labels, spacing, contour_volumes = masks
    cuts = jax.jit(clinical.disks)(labels, spacing[:, None, None])
    volume = clinical.single_plane_volume(cuts)
    np.testing.assert_allclose(volume, contour_volumes, rtol=0.08)
    single = clinical.ejection_fraction(volume[..., 0], volume[..., -1])
    biplane = clinical.biplane_volume(*(clinical.Disks(cuts.diameters[:, v], cuts.length[:, v]) for v in (0, 1)))
    biplane = clinical.ejection_fraction(biplane[..., 0], biplane[..., -1])
    asked = patients.ejection_fraction
    assert np.abs(single - asked[:, None]).max() < 1.5
    assert np.abs(biplane - asked).mean() < 1.5
    assert np.abs(biplane - asked).max() < 4.0


def test_masks_are_anatomically_valid(masks):
    report = jax.jit(anatomy.check)(masks[0])
    assert report.valid.all(), np.argwhere(~np.asarray(report.passes))


def test_the_wall_keeps_its_area(masks):
    area = np.asarray((masks[0] == 2).sum((-2, -1)), float)
    change = area[..., -1] / area[..., 0]
    assert abs(change.mean() - 1) < 0.1
    assert (np.abs(change - 1) < 0.3).all()


def test_rasterization_against_scikit_image(heart):
    contour = heart.contours[1, 1]
    spacing = jnp.array([2.1, 2.7])
    labels = np.asarray(jax.jit(rasterize, static_argnums=1)(contour[None], (70, 50), spacing, jnp.float32(400.0))[0])
    rows, cols = np.arange(70) * 2.1, (np.arange(50) - 24.5) * 2.7
    grid = np.stack(np.meshgrid(rows, cols, indexing="ij"), -1).reshape(-1, 2)
    cavity, epicardium, atrium = (
        points_in_poly(grid, np.asarray(polygon)).reshape(70, 50) for polygon in label_polygons(contour)
    )
    np.testing.assert_array_equal(labels == 1, cavity)
    np.testing.assert_array_equal(labels == 2, epicardium & ~cavity)
    assert not (labels == 3)[~atrium].any()
    assert (labels == 3).sum() >= 0.9 * (atrium & ~epicardium).sum()


def test_cycle_is_a_heartbeat():
    time = jnp.linspace(0, 1, 1001)
    beat = jax.jit(phantom.cardiac_cycle)
    for rate in (45.0, 60.0, 100.0, 140.0):
        cycle = beat(time * 60 / rate, rate)
        volume = np.asarray(cycle.volume)
        lowest = volume.argmin()
        np.testing.assert_allclose([volume[0], volume[-1], volume[lowest]], [1, 1, 0], atol=1e-4)
        assert (np.diff(volume[: lowest + 1]) <= 1e-6).all()
        assert (np.diff(volume[lowest:]) >= -1e-6).all()
        assert np.abs(np.diff(volume, 2)).max() < 1e-3  # no corner
        assert (cycle.inflow[: lowest + 1] == 0).all()  # shut in systole
        assert cycle.inflow.max() > 0.9
    later = beat(time + 3.0, 60.0)
    np.testing.assert_allclose(later.volume, beat(time, 60.0).volume, atol=1e-3)


def test_motion_is_smooth_in_time(heart):
    """Within the thresholds of temporal consistency of real sequences, at 50 frames a second."""
    volume = jax.jit(phantom.cardiac_cycle)(jnp.arange(100) / 50.0, 75.0).volume
    contours = moved(heart.contours[1], volume, ejection_fraction=60.0)
    endocardium = np.asarray(contours[:, :NUM_WALL])
    rows, cols = endocardium[..., 0], endocardium[..., 1]
    area = 0.5 * np.abs((rows * np.roll(cols, -1, -1) - cols * np.roll(rows, -1, -1)).sum(-1))
    base = (endocardium[:, 0] + endocardium[:, -1]) / 2
    length = np.linalg.norm(endocardium[:, NUM_WALL // 2] - base, axis=-1)
    for curve, threshold in ((area, 70.4), (length, 1.26)):
        assert np.abs(np.diff(curve, 2) / 2).max() < threshold


def test_an_akinetic_segment_stays(heart):
    still = phantom.Akinesia(position=0.25, extent=0.12, severity=1.0)
    sick = moved(heart.contours[1], jnp.array([1.0, 0.0]), ejection_fraction=40.0, akinesia=still)
    well = moved(heart.contours[1], jnp.array([1.0, 0.0]), ejection_fraction=40.0)
    path = [np.linalg.norm(contours[1] - contours[0], axis=-1)[:NUM_WALL] for contours in (sick, well)]
    assert path[0][8] < 1e-3 < path[1][8]
    assert path[0][26] > path[1][26]  # the rest makes up for it
    for contours in (sick, well):
        volume = contour_volume(contours[:, :NUM_WALL])
        np.testing.assert_allclose(100 * (1 - volume[1] / volume[0]), 40.0, atol=0.1)


def test_remodelling(heart):
    thick, wide = (
        draw_heart(**{change: factor}).contours for change, factor in (("hypertrophy", 1.4), ("dilation", 1.2))
    )

    def thickness(contours):
        return np.linalg.norm(contours[..., NUM_WALL : 2 * NUM_WALL, :] - contours[..., :NUM_WALL, :], axis=-1)

    np.testing.assert_allclose(thickness(thick), 1.4 * thickness(heart.contours), rtol=1e-3)
    np.testing.assert_allclose(thickness(wide), thickness(heart.contours), rtol=1e-3)
    grown = contour_volume(wide[..., :NUM_WALL, :]) / contour_volume(heart.contours[..., :NUM_WALL, :])
    np.testing.assert_allclose(grown, 1.44, rtol=0.02)


def test_same_key_same_loop_and_jit_is_eager(heart, record):
    first, again = (record(jax.random.key(5), heart) for _ in range(2))
    other = record(jax.random.key(6), heart)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.labels, other.labels)
    assert np.abs(first.images - other.images).mean() > 0.02
    eager = phantom.simulate(jax.random.key(5), heart, num_frames=3, shape=SHAPE, frame_rate=8.0, num_scatterers=4_000)
    np.testing.assert_allclose(eager.images, first.images, atol=2e-3)
    assert (eager.labels != first.labels).mean() < 1e-3


def test_vmap_is_a_loop(heart, record):
    keys = jax.random.split(jax.random.key(7), 2)
    together = jax.jit(jax.vmap(lambda key: record(key, heart)))(keys)
    assert together.images.shape == (2, 3, *SHAPE, 1)
    for index, key in enumerate(keys):
        np.testing.assert_allclose(together.images[index], record(key, heart).images, atol=2e-3)


def test_pictures_are_pictures(heart, record):
    loop = record(jax.random.key(5), heart)
    assert loop.images.shape == (3, *SHAPE, 1)
    assert loop.labels.dtype == jnp.int32
    assert 0 <= loop.images.min() < loop.images.max() <= 1
    grey = loop.images[..., 0]
    assert grey[loop.labels == 2].mean() > grey[loop.labels == 1].mean() + 0.05
    assert (grey[:, -1, 0] == 0).all()  # outside the sector
    assert (np.abs(np.diff(loop.images, axis=0)).mean((1, 2, 3)) > 0.01).all()  # blood and noise never stand still


def test_speckle_moves_with_the_tissue(heart):
    """The wall is displaced by whole samples: its echoes are found again just there."""
    contour, depth = heart.contours[1, 0], heart.depth
    make = jax.jit(functools.partial(scatterers.make_scatterers, view="4CH", num_scatterers=20_000))
    still = make(jax.random.key(1), contour, depth, jnp.deg2rad(GE.half_angle))
    acquisition = jax.jit(scanner.sample_acquisition, static_argnums=1)(jax.random.key(2), GE, depth)
    acquisition = acquisition._replace(clutter=0 * acquisition.clutter, noise=0 * acquisition.noise)

    @jax.jit
    def picture(shift):
        direction = still.places / jnp.linalg.norm(still.places, axis=-1, keepdims=True)
        return scanner.echo(
            jax.random.key(3),
            scatterers.displace(still, jnp.zeros_like(contour)) + shift * direction,
            still.strengths,
            acquisition._replace(gain=jnp.ones_like(acquisition.gain)),
            vendor=GE,
            depth=depth,
            density=1.0,
        )

    samples = 6
    step = depth / (acquisition.gain.shape[0] - 1)
    before, after = (
        grey - ndimage.gaussian_filter(grey, 4.0)  # the grain without the anatomy
        for grey in (np.asarray(picture(0.0)), np.asarray(picture(samples * step)))
    )
    middle = slice(100, 300)

    def likeness(shift):
        moved = after[middle.start + shift : middle.stop + shift]
        return np.corrcoef(before[middle].ravel(), moved.ravel())[0, 1]

    assert likeness(samples) > 0.99
    assert abs(likeness(0)) < 0.3
    # and the landmarks carry their surroundings with them
    lifted = scatterers.displace(still, jnp.full_like(contour, -2.0)) - still.places
    near = np.asarray(still.places)
    close = (np.abs(near[:, None] - np.asarray(contour)[None]).max(-1) < 2).any(-1)
    np.testing.assert_allclose(np.asarray(lifted)[close], -2.0, atol=0.2)


def test_scanners_differ(heart):
    means, sectors = [], []
    for name, vendor in phantom.VENDORS.items():
        loop = jax.jit(functools.partial(phantom.simulate, vendor=vendor, num_frames=1, shape=SHAPE))(
            jax.random.key(5), heart
        )
        grey, labels = np.asarray(loop.images[0, ..., 0]), np.asarray(loop.labels[0])
        means.append([grey[labels == k].mean() for k in (1, 2)])
        sectors.append(float(loop.spacing[0] * 47))
        assert (labels == 1).any(), name
    assert len({round(s, 2) for s in sectors}) == len(sectors)
    contrast = np.diff(means)[:, 0]
    assert contrast.min() > 0
    assert np.abs(contrast[1] - contrast[0]) > 0.03


def test_there_is_no_such_view(heart):
    with pytest.raises(ValueError, match="2CH, 4CH"):
        phantom.simulate(jax.random.key(0), heart, view="3CH")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_dataset_is_built_and_read_back(tmp_path, capsys):
    config = phantom.PhantomSet(num_patients=2, views=("4CH",), size=32, num_frames=2, seed=4)
    command = "data build phantom --num-patients 2 --views 4CH --size 32 --num-frames 2 --seed 4 --data-dir"
    with pytest.raises(ValueError, match="has not been built"):
        phantom.open_phantom(tmp_path, "train", config)
    assert cli.main([*command.split(), str(tmp_path)]) == 0
    assert "1 in train, 1 in validation" in capsys.readouterr().out
    train, held_out = (phantom.open_phantom(tmp_path, split, config)[0] for split in ("train", "validation"))
    assert train["image"].shape == train["label"].shape == (2, 32, 32)
    assert (train["patient"], held_out["patient"], train["view"]) == (b"patient0001", b"patient0002", b"4CH")
    assert set(np.unique(train["label"])) <= {0, 1, 2, 3}
    assert 10 < train["ejection_fraction"] < 75
    np.testing.assert_allclose(train["volume"][0], train["volume"][-1], rtol=1e-3)  # from end-diastole to the next
    assert phantom.build_phantom(tmp_path / "again", config) == {"train": 1, "validation": 1}
    again = phantom.open_phantom(tmp_path / "again", "train", config)[0]
    np.testing.assert_array_equal(again["image"], train["image"])


def test_mistakes_in_a_configuration_are_sentences():
    with pytest.raises(ValueError, match="ge_like, philips_like"):
        phantom.PhantomSet(vendor="acme")
    with pytest.raises(ValueError, match="views must be some of"):
        phantom.PhantomSet(views=("3CH",))
    with pytest.raises(ValueError, match="2 patients"):
        phantom.PhantomSet(num_patients=1)
    assert phantom.PhantomSet().views == MEASURED_VIEWS
