"""Anatomical correction of damaged masks of 224 x 224: ours beside the published method, one mask at a time.

CAMUS masks where ``CARDIOJAX_DATA`` names them, drawn hearts otherwise, each cut by a band across the image. Both move
a code towards its nearest neighbour of the packaged bank by the same bisection, with the same autoencoder. Published is
a labelling of a mask for each question (SciPy and scikit-image); scikit-learn finds the neighbour.

Run: ``python -m benchmarks.methods.correction``
"""

import functools

import numpy as np

from benchmarks.harness import Section, compare, figures, main, table
from benchmarks.methods import anatomy

NUM, NUM_BASELINE, SIZE, BISECTIONS, BATCH = 1000, 10, 224, 6, 128


def damaged(num: int) -> np.ndarray:
    """Masks with a band of background across the heart, in any direction."""
    masks, rng = anatomy.masks(num, SIZE), np.random.default_rng(0)
    rows, cols = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    for mask in masks:
        angle, offset, width = rng.uniform(0, np.pi), rng.uniform(-0.2, 0.2), rng.uniform(0.01, 0.05)
        mask[np.abs(rows * np.cos(angle) + cols * np.sin(angle) - offset) < width] = 0
    return masks


def ours(num_neighbours: int):
    """All masks in one call."""
    from cardiojax.correction.anatomical import make_anatomical_corrector
    from cardiojax.runtime.devices import use_every_core

    use_every_core()
    corrector = make_anatomical_corrector(
        num_neighbours=num_neighbours, num_bisections=BISECTIONS, batch_size=BATCH, optimization_level=3
    )
    masks = damaged(NUM)
    return lambda: corrector(masks)


def one_at_a_time():
    """The published method."""
    import jax
    from sklearn.neighbors import NearestNeighbors

    from cardiojax import zoo
    from cardiojax.anatomy import CAMUS, limits
    from cardiojax.correction.anatomical import load_shapes

    shapes, bank = load_shapes("cvae_camus"), zoo.load_bank("cvae_camus").astype(np.float32)
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank)
    encode = jax.jit(shapes.encode)
    decode = jax.jit(functools.partial(shapes.decode, height=SIZE, width=SIZE))
    low, high = (np.asarray(side) for side in limits(CAMUS))
    masks = damaged(NUM_BASELINE)

    def is_valid(mask):
        values = np.asarray(anatomy.original_criteria(mask))
        return bool(((values >= low) & (values <= high)).all())

    def correct(mask):
        if is_valid(mask):
            return mask
        code = np.asarray(encode(mask))
        near, far = code, bank[search.kneighbors(code[None])[1][0, 0]]
        for _ in range(BISECTIONS):
            middle = (near + far) / 2
            near, far = (near, middle) if is_valid(np.asarray(decode(middle))) else (middle, far)
        return np.asarray(decode(far))

    return lambda: [correct(mask) for mask in masks]


def run(rounds: int = 3) -> Section:
    """Times all."""
    contenders = {
        "cardiojax, 2 neighbours": (functools.partial(ours, 2), NUM),
        "cardiojax, 1 neighbour": (functools.partial(ours, 1), NUM),
        "one mask at a time, 1 neighbour": (one_at_a_time, NUM_BASELINE),
    }
    timings = compare({name: workload for name, (workload, _) in contenders.items()}, rounds=rounds)
    nums = {name: num for name, (_, num) in contenders.items()}
    text = table(list(timings.values()), unit=nums, unit_name="mask")
    title = "Correction of 1,000 damaged masks, 224 x 224"
    return Section(title=title, text=text, data={"timings": figures(timings)})


PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
