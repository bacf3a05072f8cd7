"""The 12 anatomical criteria at 256 x 256: ours beside the original method with SciPy and scikit-image.

CAMUS masks, enlarged, where ``CARDIOJAX_DATA`` names them; drawn and deformed hearts otherwise.

Run: ``python -m benchmarks.methods.anatomy``
"""

import functools
import os
from pathlib import Path

import numpy as np

from benchmarks.harness import Section, compare, figures, main

NUM, NUM_BASELINE = 1600, 40


def masks(num: int, size: int) -> np.ndarray:
    """Label maps, ``[num, size, size]``: of CAMUS, or drawn."""
    source = Path(os.environ.get("CARDIOJAX_DATA", "nowhere")) / "camus_224" / "camus224_train.npz"
    found = np.load(source)["label"] if source.exists() else _drawn()
    pick = (np.arange(size) + 0.5) * found.shape[1] // size
    index = np.linspace(0, len(found) - 1, num).astype(int) if num <= len(found) else np.arange(num) % len(found)
    rows = pick.astype(int)
    return found[index][:, rows][:, :, rows].astype(np.int32)


def _drawn(num: int = 400) -> np.ndarray:
    """Hearts of many sizes and tilts with wavy outlines, one in ten with a small component or a hole."""
    rng = np.random.default_rng(0)
    hearts = []
    for _ in range(num):
        rows, cols = np.mgrid[:224, :224] - rng.normal(112, 4, (2, 1, 1))
        turn, waves = rng.normal(0, 0.15), rng.normal(0, 2, 4)
        y, x = rows * np.cos(turn) - cols * np.sin(turn) - 20, rows * np.sin(turn) + cols * np.cos(turn)
        x = x + waves[0] * np.sin(y / 20 + waves[1])
        y = y + waves[2] * np.sin(x / 20 + waves[3])
        scale = rng.normal(1, 0.1)
        cavity, wall = ((y / a / scale) ** 2 + (x / b / scale) ** 2 < 1 for a, b in ((80, 30), (95, 50)))
        atrium = np.hypot(y - 20 * scale, x) < 30 * scale
        mask = np.select([cavity & (y < 0), wall & (y < 0), atrium & (y >= 0)], [1, 2, 3], 0)
        if rng.random() < 0.1:
            row, col = rng.integers(10, 200, 2)
            mask[row : row + 5, col : col + 5] = rng.integers(0, 4)
        hearts.append(mask)
    return np.stack(hearts)


def ours(num: int = NUM, size: int = 256, *, valid_alone: bool = False):
    """One call over all masks: the values of all criteria, or only whether they pass."""
    import jax
    import jax.numpy as jnp

    from cardiojax import anatomy

    label_maps = jnp.asarray(masks(num, size))
    call = jax.jit(anatomy.is_valid if valid_alone else anatomy.check)
    return lambda: jax.block_until_ready(call(label_maps))


def ours_sharded(num: int = NUM, size: int = 256):
    """The same with a device a core."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from cardiojax import anatomy
    from cardiojax.runtime.devices import use_every_core

    use_every_core()
    mesh = jax.make_mesh((jax.device_count(),), ("masks",))
    label_maps = jax.device_put(jnp.asarray(masks(num, size)), NamedSharding(mesh, PartitionSpec("masks")))
    call = jax.jit(functools.partial(anatomy.check_sharded, mesh=mesh))
    return lambda: jax.block_until_ready(call(label_maps))


def original(num: int = NUM_BASELINE, size: int = 256):
    """The original method: mask by mask, a labelling for each question."""
    label_maps = masks(num, size)
    return lambda: [original_criteria(mask) for mask in label_maps]


def original_criteria(mask: np.ndarray) -> list[float]:
    """The 12 values of one mask by a labelling for each question."""
    from scipy import ndimage
    from skimage import measure, morphology

    square, small = np.ones((3, 3)), mask.size / 2**14
    lv, wall, atrium, background = (np.isin(mask, k) for k in (1, 2, 3, 0))
    epicardium = np.isin(mask, (1, 2))

    def holes(s):
        padded = np.pad(~s, 1, constant_values=True)
        return sum(p.area for p in measure.regionprops(measure.label(padded, connectivity=2)) if p.bbox[0] != 0)

    def apart(s):
        sizes = sorted(p.area for p in measure.regionprops(measure.label(s, connectivity=2)))
        return sum(sizes[:-1])

    def gap(a, b):
        own = []
        for one, other in ((a, b), (b, a)):
            regions, count = measure.label(~one, connectivity=1, return_num=True)
            regions[regions == regions[0, 0]] = 0
            inner = np.setdiff1d(np.arange(1, count + 1), np.unique(regions * other))
            own.append(np.isin(regions, inner))
        left = measure.label(~(a | b | own[0] | own[1]), connectivity=1)
        left[left == left[0, 0]] = 0
        count = np.sum(left > 0)
        return count if count > small else 0

    def frontier(a, b):
        touching = np.sum(a & morphology.dilation(b, square))
        bbox = measure.regionprops(a.astype(np.uint8))[0].bbox if a.any() else (0, 0, 0, np.inf)
        return (touching if touching > 1 else 0) / (bbox[3] - bbox[1])

    def erosion(s):
        thickness, steps = ndimage.distance_transform_edt(s).max(), 0
        while measure.label(s, connectivity=2, return_num=True)[1] == 1:
            s = morphology.erosion(s, square)
            regions = measure.label(s, connectivity=1)
            s = s & (np.bincount(regions.ravel()) >= small)[regions]
            steps += 1
        return steps / thickness

    row = int(ndimage.center_of_mass(epicardium)[0])
    return [
        holes(lv), holes(epicardium), holes(atrium), gap(lv, wall), gap(lv, atrium), apart(lv), apart(wall),
        apart(atrium), frontier(lv, background), frontier(wall, atrium), erosion(wall),
        lv[row].sum() / wall[row].sum(),
    ]  # fmt: skip


def run(rounds: int = 5) -> Section:
    """Times both, then ours over batches and sizes."""
    contenders = {
        "cardiojax": (ours, NUM),
        "cardiojax, whether valid": (functools.partial(ours, valid_alone=True), NUM),
        "cardiojax, a device a core": (ours_sharded, NUM),
        "SciPy and scikit-image": (original, NUM_BASELINE),
    }
    timings = compare({name: workload for name, (workload, _) in contenders.items()}, rounds=rounds)
    nums = [num for _, num in contenders.values()]
    rates = {name: num / timings[name].median for name, num in zip(timings, nums, strict=True)}
    lines = [
        "| 12 criteria, 256 x 256 | masks/s | slowest | fastest | first call, s | peak MiB |",
        "|---|---|---|---|---|---|",
    ]
    for (name, t), num in zip(timings.items(), nums, strict=True):
        lines.append(
            f"| {name} | {num / t.median:,.0f} | {num / t.high:,.0f} | {num / t.low:,.0f} | {t.first:.1f} "
            f"| {t.peak_mib:.0f} |"
        )
    gain = rates["cardiojax"] / rates["SciPy and scikit-image"]
    lines.append(f"\nOurs over the original method, which goes mask by mask: **{gain:.0f} times**\n")
    cases = [(1, 256), (16, 256), (256, 256), (1024, 256), (8192, 256), (1024, 64), (1024, 128), (1024, 512)]
    calls = {f"{n} x {s} x {s}": functools.partial(ours, n, s) for n, s in cases}
    calls |= {f"{name}, whether valid": functools.partial(call, valid_alone=True) for name, call in calls.items()}
    scaling = compare(calls, rounds=3)
    lines += ["| ours | masks/s | ns a pixel | peak MiB |", "|---|---|---|---|"]
    for (num, size), t in zip(2 * cases, scaling.values(), strict=True):
        lines.append(
            f"| {t.name} | {num / t.median:,.0f} | {1e9 * t.median / (num * size**2):.2f} | {t.peak_mib:.0f} |"
        )
    data = {"timings": figures(timings), "masks_per_second": rates, "scaling": figures(scaling)}
    return Section(title="Anatomical criteria", text="\n".join(lines), data=data)


NOTE = """
At 512 x 512 the smallest region that counts is 16 pixels, at 256 x 256 four. Regions of up to four are identified from
their neighbourhood; whether a wall that breaks leaves two larger ones takes a flood fill, for every mask. Whether a
mask is valid mostly needs no such fill: an even wall is proved to be even.
"""

PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
