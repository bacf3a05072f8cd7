"""Hausdorff and mean surface distance of 200 masks of 224 x 224: ours beside SciPy, MedPy and MONAI.

Run: ``python -m benchmarks.methods.surface``
"""

import numpy as np

from benchmarks.harness import Section, compare, figures, main, ratio_to_best, table

NUM = 200


def _masks(num: int = NUM):
    """Ellipses and the same a little displaced and deformed: what a segmentation looks like."""
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:224, :224]

    def ellipses(jitter):
        centre = 112 + rng.normal(0, jitter, (num, 2, 1, 1))
        axes = np.array([60.0, 35.0]).reshape(1, 2, 1, 1) + rng.normal(0, jitter, (num, 2, 1, 1))
        return ((rows - centre[:, 0]) / axes[:, 0]) ** 2 + ((cols - centre[:, 1]) / axes[:, 1]) ** 2 < 1

    return ellipses(0.5), ellipses(4.0)


def ours(num: int = NUM):
    """One batch."""
    import jax
    import jax.numpy as jnp

    from cardiojax import metrics

    a, b = (jnp.asarray(m) for m in _masks(num))
    spacing = jnp.array([0.5, 0.6])
    call = jax.jit(lambda a, b: (metrics.hausdorff(a, b, spacing), metrics.mean_absolute_distance(a, b, spacing)))
    return lambda: jax.block_until_ready(call(a, b))


def scipy():
    """The outline of each mask and the distance transform of the other's."""
    from scipy import ndimage

    a, b = _masks()

    def edge(mask):
        return mask & ~ndimage.binary_erosion(mask)

    def call():
        for x, y in zip(a, b, strict=True):
            x, y = edge(x), edge(y)
            there = ndimage.distance_transform_edt(~y, (0.5, 0.6))[x]
            back = ndimage.distance_transform_edt(~x, (0.5, 0.6))[y]
            max(there.max(), back.max()), (there.mean() + back.mean()) / 2

    return call


def scipy_trees():
    """A k-d tree of the pixels of each outline."""
    from scipy import ndimage
    from scipy.spatial import cKDTree

    a, b = _masks()

    def pixels(mask):
        return np.argwhere(mask & ~ndimage.binary_erosion(mask)) * (0.5, 0.6)

    def call():
        for x, y in zip(a, b, strict=True):
            x, y = pixels(x), pixels(y)
            there, back = cKDTree(y).query(x)[0], cKDTree(x).query(y)[0]
            max(there.max(), back.max()), (there.mean() + back.mean()) / 2

    return call


def medpy():
    """MedPy's two functions."""
    from medpy.metric import assd, hd

    a, b = _masks()

    def call():
        for x, y in zip(a, b, strict=True):
            hd(x, y, (0.5, 0.6)), assd(x, y, (0.5, 0.6))

    return call


def monai():
    """MONAI's two functions, one batch."""
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    torch.set_num_threads(2)
    a, b = (torch.from_numpy(np.stack([~m, m], 1)).float() for m in _masks())

    def call():
        compute_hausdorff_distance(a, b, spacing=(0.5, 0.6))
        compute_average_surface_distance(a, b, symmetric=True, spacing=(0.5, 0.6))

    return call


def run(rounds: int = 5) -> Section:
    """Times all five."""
    contenders = {
        "cardiojax": ours,
        "SciPy, transforms": scipy,
        "SciPy, k-d trees": scipy_trees,
        "MedPy": medpy,
        "MONAI": monai,
    }
    timings = compare(contenders, rounds=rounds)
    text = table(list(timings.values()), unit=NUM, unit_name="mask")
    title = "Hausdorff and mean surface distance, 224 x 224"
    return Section(title=title, text=text, ratio=ratio_to_best(timings), data={"timings": figures(timings)})


PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
