"""Densities, rejection sampling and nearest neighbours in a latent space, beside SciPy, scikit-learn and PyTorch.

Run: ``python -m benchmarks.methods.rejection_sampling``
"""

import functools

import numpy as np

from benchmarks.harness import Section, Timing, compare, figures, main, table

NUM_CODES, DIM, WIDTH = 2000, 16, 0.6
#: Dimension and width at which the one-at-a-time sampler gets anywhere at all.
SMALL_DIM, SMALL_WIDTH = 8, 0.7
BANK, QUERIES, NEIGHBOURS = 1_000_000, 256, 8


def _codes(num: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32)


def density_ours(num: int):
    """One call for all points."""
    import jax
    import jax.numpy as jnp

    from cardiojax import latent

    density = latent.fit_parzen(jnp.asarray(_codes(NUM_CODES, DIM)), bandwidth=WIDTH)
    points = jnp.asarray(_codes(num, DIM, 1))
    call = jax.jit(lambda density, x: density.log_prob(x))
    return lambda: call(density, points).block_until_ready()


def density_scipy(num: int):
    """``gaussian_kde.logpdf`` with the same kernels."""
    from scipy.stats import gaussian_kde

    density = gaussian_kde(_codes(NUM_CODES, DIM).T, bw_method=WIDTH)
    points = _codes(num, DIM, 1).T
    return lambda: density.logpdf(points)


def density_sklearn(num: int):
    """``KernelDensity`` as the original method calls it."""
    from sklearn.neighbors import KernelDensity

    density = KernelDensity(bandwidth=WIDTH).fit(_codes(NUM_CODES, DIM))
    points = _codes(num, DIM, 1)
    return lambda: density.score_samples(points)


def density_torch(num: int):
    """The equally weighted mixture of normal densities that PyTorch offers, in blocks."""
    import torch
    from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

    torch.set_num_threads(2)
    codes, points = (torch.from_numpy(_codes(n, DIM, s)) for n, s in ((NUM_CODES, 0), (num, 1)))
    parts = Independent(Normal(codes, WIDTH), 1)
    density = MixtureSameFamily(Categorical(torch.ones(NUM_CODES)), parts)
    return lambda: torch.cat([density.log_prob(block) for block in points.split(256)])


def density_torch_matmul(num: int):
    """The same sum written by hand for PyTorch: distances by a matrix product, in blocks."""
    import torch

    torch.set_num_threads(2)
    codes, points = (torch.from_numpy(_codes(n, DIM, s)) / WIDTH for n, s in ((NUM_CODES, 0), (num, 1)))
    squares = -0.5 * codes.square().sum(-1)

    def call():
        blocks = (torch.addmm(squares, x, codes.T).logsumexp(-1) - 0.5 * x.square().sum(-1) for x in points.split(4096))
        return torch.cat(list(blocks))

    return call


def sample_ours(num: int, proposal: str):
    """``rejection_sample``."""
    import jax
    import jax.numpy as jnp

    from cardiojax import latent

    codes = jnp.asarray(_codes(NUM_CODES, SMALL_DIM))
    target = latent.fit_parzen(codes, bandwidth=SMALL_WIDTH)
    kernel = SMALL_WIDTH**2 * jnp.eye(SMALL_DIM)
    source = {
        "normal": lambda: latent.fit_gaussian(codes),
        "mixture": lambda: latent.fit_mixture(jax.random.key(1), codes, 8, covariance=kernel),
        "window": lambda: target,
    }[proposal]()
    call = jax.jit(lambda key, p, q: latent.rejection_sample(key, p, q, num))
    return lambda: jax.block_until_ready(call(jax.random.key(0), target, source))


def sample_original(num: int):
    """One proposal at a time, as the original method: its densities are scikit-learn's and SciPy's."""
    from scipy.stats import multivariate_normal
    from sklearn.neighbors import KernelDensity

    codes = _codes(NUM_CODES, SMALL_DIM)
    target = KernelDensity(bandwidth=SMALL_WIDTH).fit(codes)
    proposal = multivariate_normal(codes.mean(0), np.cov(codes.T))
    scale = np.exp(target.score_samples(codes) - proposal.logpdf(codes)).max()
    rng = np.random.default_rng(0)

    def call():
        kept = []
        while len(kept) < num:
            z = proposal.rvs(random_state=rng)
            if rng.uniform(0, scale * proposal.pdf(z)) <= np.exp(target.score_samples(z[None])[0]):
                kept.append(z)
        return np.stack(kept)

    return call


def nearest_ours(dtype: str):
    """``nearest``."""
    import jax
    import jax.numpy as jnp

    from cardiojax import latent

    bank, queries = jnp.asarray(_codes(BANK, DIM), dtype), jnp.asarray(_codes(QUERIES, DIM, 1))
    call = jax.jit(lambda x, bank: latent.nearest(x, bank, NEIGHBOURS))
    return lambda: jax.block_until_ready(call(queries, bank))


def nearest_numpy():
    """A matrix product and a partition, 16 queries at a time."""
    bank, queries = _codes(BANK, DIM), _codes(QUERIES, DIM, 1)
    squares = np.square(bank).sum(-1)

    def call():
        for x in np.split(queries, QUERIES // 16):
            np.argpartition(squares - 2 * x @ bank.T, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]

    return call


def nearest_sklearn():
    """``NearestNeighbors`` by brute force."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(_codes(BANK, DIM))
    queries = _codes(QUERIES, DIM, 1)
    return lambda: search.kneighbors(queries)


def _rates(sizes: dict[str, int], timings: dict[str, Timing], unit: str) -> str:
    lines = [f"| | {unit}/s |", "|---|---|"]
    for name, timing in timings.items():
        lines.append(f"| {name} | {timing.note or format(sizes[name] / timing.median, ',.3g')} |")
    return "\n".join(lines)


def run(rounds: int = 3) -> Section:
    """Times all."""
    densities = {
        "cardiojax": (density_ours, 400_000),
        "SciPy gaussian_kde": (density_scipy, 10_000),
        "scikit-learn KernelDensity": (density_sklearn, 4_000),
        "PyTorch MixtureSameFamily": (density_torch, 10_000),
        "PyTorch, by hand": (density_torch_matmul, 100_000),
    }
    sizes = {name: num for name, (_, num) in densities.items()}
    first = compare({name: functools.partial(f, num) for name, (f, num) in densities.items()}, rounds=rounds)
    text = f"Log density at points, {NUM_CODES} kernels in {DIM} dimensions:\n\n" + _rates(sizes, first, "points")

    samplers = {
        "cardiojax, normal proposal": (functools.partial(sample_ours, proposal="normal"), 2_000),
        "cardiojax, mixture of 8": (functools.partial(sample_ours, proposal="mixture"), 10_000),
        "cardiojax, the window itself": (functools.partial(sample_ours, proposal="window"), 200_000),
        "one at a time, as the original": (sample_original, 2),
    }
    sizes = {name: num for name, (_, num) in samplers.items()}
    second = compare({name: functools.partial(f, num) for name, (f, num) in samplers.items()}, rounds=rounds)
    text += f"\n\nAccepted draws, {NUM_CODES} kernels of width {SMALL_WIDTH} in {SMALL_DIM} dimensions:\n\n"
    text += _rates(sizes, second, "draws")

    third = compare(
        {
            "cardiojax": functools.partial(nearest_ours, "float32"),
            "cardiojax, bank in half precision": functools.partial(nearest_ours, "float16"),
            "NumPy": nearest_numpy,
            "scikit-learn, brute force": nearest_sklearn,
        },
        rounds=rounds,
    )
    text += f"\n\nThe {NEIGHBOURS} nearest of {BANK:,} codes in {DIM} dimensions, {QUERIES} queries:\n\n"
    text += table(list(third.values()), unit=QUERIES, unit_name="query")
    data = {"density": figures(first), "sampling": figures(second), "nearest": figures(third)}
    return Section(title="Densities, draws and neighbours in a latent space", text=text, data=data)


PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
