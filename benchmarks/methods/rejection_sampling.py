"""Densities, rejection sampling and nearest neighbours in a latent space, beside SciPy, scikit-learn and PyTorch.

Run: ``python -m benchmarks.methods.rejection_sampling``
"""

import functools

import numpy as np

from benchmarks.harness import Section, Timing, compare, figures, main, table

#: Codes of the packaged bank that are centres of kernels, and the bandwidth that cross-validation chooses for the codes
#: of the CAMUS training masks.
NUM_CODES, DIM, WIDTH = 2000, 16, 0.603
BANK, QUERIES, NEIGHBOURS = 1_000_000, 256, 8


def real_codes() -> np.ndarray:
    """Centres of the kernels."""
    from cardiojax import zoo

    return zoo.load_bank("cvae_camus")[:NUM_CODES].astype(np.float32)


def drawn(num: int, seed: int) -> np.ndarray:
    """Draws of the window around these codes."""
    rng, codes = np.random.default_rng(seed), real_codes()
    return (codes[rng.integers(0, len(codes), num)] + WIDTH * rng.normal(size=(num, DIM))).astype(np.float32)


def density_ours(num: int):
    """One call for all points."""
    import jax
    import jax.numpy as jnp

    from cardiojax import latent

    density = latent.fit_parzen(jnp.asarray(real_codes()), bandwidth=WIDTH)
    points = jnp.asarray(drawn(num, 1))
    call = jax.jit(lambda density, x: density.log_prob(x))
    return lambda: call(density, points).block_until_ready()


def density_scipy(num: int):
    """``gaussian_kde.logpdf`` with the same kernels."""
    density, deviation = _kde(WIDTH)
    points = drawn(num, 1).T / deviation
    return lambda: density.logpdf(points)


def _kde(width: float):
    """SciPy's density with kernels of that width, and by what its codes are divided: it scales by their covariance."""
    from scipy.stats import gaussian_kde

    codes = real_codes()
    deviation = float(np.sqrt(np.cov(codes.T).diagonal().mean()))
    density = gaussian_kde(codes.T / deviation)
    density.covariance = np.square(width / deviation) * np.eye(DIM)
    density.cho_cov = np.linalg.cholesky(density.covariance)
    density.log_det = 2 * np.log(np.diag(density.cho_cov * np.sqrt(2 * np.pi))).sum()
    return density, deviation


def density_sklearn(num: int):
    """``KernelDensity`` as the original method calls it."""
    from sklearn.neighbors import KernelDensity

    density = KernelDensity(bandwidth=WIDTH).fit(real_codes())
    points = drawn(num, 1)
    return lambda: density.score_samples(points)


def density_torch(num: int):
    """The equally weighted mixture of normal densities that PyTorch offers, in blocks."""
    import torch
    from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

    torch.set_num_threads(2)
    codes, points = (torch.from_numpy(x) for x in (real_codes(), drawn(num, 1)))
    parts = Independent(Normal(codes, WIDTH), 1)
    density = MixtureSameFamily(Categorical(torch.ones(NUM_CODES)), parts)
    return lambda: torch.cat([density.log_prob(block) for block in points.split(256)])


def density_torch_matmul(num: int, device: str = "cpu", block_size: int = 4096):
    """The same sum written by hand for PyTorch: distances by a matrix product, in blocks."""
    import torch

    torch.set_num_threads(2)
    codes, points = ((torch.from_numpy(x) / WIDTH).to(device) for x in (real_codes(), drawn(num, 1)))
    squares = -0.5 * codes.square().sum(-1)

    def block(x):
        return torch.addmm(squares, x, codes.T).logsumexp(-1) - 0.5 * x.square().sum(-1)

    def call():
        torch.cat([block(x) for x in points.split(block_size)])
        if device == "cuda":
            torch.cuda.synchronize()

    return call


def window(bandwidth: float = WIDTH):
    """The density that banks are drawn from, around codes of the packaged bank."""
    import jax.numpy as jnp

    from cardiojax import latent

    return latent.fit_parzen(jnp.asarray(real_codes()), bandwidth=bandwidth)


def direct_ours(num: int):
    """Draws of the window without rejection."""
    import jax

    target = window()
    call = jax.jit(lambda key, p: p.sample(key, num))
    return lambda: call(jax.random.key(0), target).block_until_ready()


def direct_scipy(num: int):
    """``gaussian_kde.resample``."""
    density, _ = _kde(WIDTH)
    return lambda: density.resample(num, seed=0)


def sample_ours(num: int, proposal: str):
    """``rejection_sample``."""
    import jax

    from cardiojax import latent

    target = window()
    source, scale = {
        "normal": (latent.fit_gaussian(target.codes), "upper_quartile"),
        "widened": (target.widened(1.05), "max"),
        "window": (target, "max"),
    }[proposal]
    call = jax.jit(lambda key, p, q: latent.rejection_sample(key, p, q, num, scale=scale))
    return lambda: jax.block_until_ready(call(jax.random.key(0), target, source))


def sample_numpy(num: int):
    """The widened window in batches of NumPy; its densities are SciPy's."""
    codes, (dim, factor) = real_codes(), (DIM, 1.05)
    (target, deviation), (proposal, _) = _kde(WIDTH), _kde(factor * WIDTH)
    whitened = codes / deviation
    rng = np.random.default_rng(0)

    def call():
        kept = np.zeros((0, dim))
        while len(kept) < num:
            rows = rng.integers(0, len(codes), num)
            z = whitened[rows] + factor * WIDTH / deviation * rng.normal(size=(num, dim))
            log_u = np.log(rng.uniform(size=num)) + dim * np.log(factor) + proposal.logpdf(z.T)
            kept = np.concatenate([kept, z[log_u <= target.logpdf(z.T)]])
        return kept[:num]

    return call


def propose_original(num: int):
    """Proposals one at a time, as the original method: its densities are scikit-learn's and SciPy's."""
    from scipy.stats import multivariate_normal
    from sklearn.neighbors import KernelDensity

    codes = real_codes()
    target = KernelDensity(bandwidth=WIDTH).fit(codes)
    proposal = multivariate_normal(codes.mean(0), np.cov(codes.T))
    scale = np.percentile(np.exp(target.score_samples(codes) - proposal.logpdf(codes)), 75)
    rng = np.random.default_rng(0)

    def call():
        kept = []
        for _ in range(num):
            z = proposal.rvs(random_state=rng)
            if rng.uniform(0, scale * proposal.pdf(z)) <= np.exp(target.score_samples(z[None])[0]):
                kept.append(z)
        return kept

    return call


def check_ours(num: int, part: str):
    """Decoding, the criteria at 224 x 224, or all of a bank: draws, decoding and criteria, on every core."""
    from cardiojax.runtime.devices import use_every_core

    use_every_core()
    import jax
    import jax.numpy as jnp
    from jax.sharding import Mesh

    from cardiojax import anatomy, latent
    from cardiojax.correction.anatomical import load_shapes

    shapes, target = load_shapes("cvae_camus"), window()
    wide = target.widened(1.05)

    def decode(codes):
        return shapes.decode(codes, 224, 224)

    mesh = Mesh(np.array(jax.devices()), ("blocks",))
    codes = jnp.asarray(real_codes()[:num])
    masks = jax.jit(decode)(codes)
    bank = {"decode": decode, "is_valid": anatomy.is_valid, "block_size": num // len(jax.devices()), "mesh": mesh}
    blocks = jnp.arange(len(jax.devices()))
    call = {
        "decode": lambda: decode(codes),
        "criteria": lambda: anatomy.is_valid(masks),
        "bank": lambda: latent.draw_candidates(jax.random.key(0), blocks, target, wide, wide.log_bound, **bank),
    }[part]
    compiled = jax.jit(call)
    return lambda: jax.block_until_ready(compiled())


def nearest_ours(dtype: str, bank_size: int = BANK, num_queries: int = QUERIES):
    """``nearest``."""
    import jax
    import jax.numpy as jnp

    from cardiojax import latent

    bank, queries = jnp.asarray(drawn(bank_size, 0), dtype), jnp.asarray(drawn(num_queries, 1))
    call = jax.jit(lambda x, bank: latent.nearest(x, bank, NEIGHBOURS))
    return lambda: jax.block_until_ready(call(queries, bank))


def nearest_numpy():
    """A matrix product and a partition, 16 queries at a time."""
    bank, queries = drawn(BANK, 0), drawn(QUERIES, 1)
    squares = np.square(bank).sum(-1)

    def call():
        for x in np.split(queries, QUERIES // 16):
            np.argpartition(squares - 2 * x @ bank.T, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]

    return call


def nearest_sklearn():
    """``NearestNeighbors`` by brute force."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(drawn(BANK, 0))
    queries = drawn(QUERIES, 1)
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
        "cardiojax, window widened by 1.05": (functools.partial(sample_ours, proposal="widened"), 100_000),
        "cardiojax, the window itself": (functools.partial(sample_ours, proposal="window"), 100_000),
        "cardiojax, drawn without rejection": (direct_ours, 1_000_000),
        "SciPy gaussian_kde.resample, without rejection": (direct_scipy, 1_000_000),
        "cardiojax, normal proposal, quartile k": (functools.partial(sample_ours, proposal="normal"), 20),
        "NumPy and SciPy in batches, window widened by 1.05": (sample_numpy, 2_000),
    }
    sizes = {name: num for name, (_, num) in samplers.items()}
    second = compare({name: functools.partial(f, num) for name, (f, num) in samplers.items()}, rounds=rounds)
    text += f"\n\nAccepted draws, {NUM_CODES} codes of the packaged bank in {DIM} dimensions:\n\n"
    text += _rates(sizes, second, "draws")

    originals = {"one at a time, as the original": (propose_original, 500)}
    sizes = {name: num for name, (_, num) in originals.items()}
    fourth = compare({name: functools.partial(f, num) for name, (f, num) in originals.items()}, rounds=rounds)
    text += "\n\nNormal proposals with quartile k, of which about one in ten thousand is accepted:\n\n"
    text += _rates(sizes, fourth, "proposals")

    checks = {part: (functools.partial(check_ours, part=part), 512) for part in ("decode", "criteria", "bank")}
    sizes = {name: num for name, (_, num) in checks.items()}
    fifth = compare({name: functools.partial(f, num) for name, (f, num) in checks.items()}, rounds=rounds)
    text += "\n\nShapes at 224 x 224; decoding and criteria on one device, a bank on every core:\n\n"
    text += _rates(sizes, fifth, "codes")

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
    data = {"density": figures(first), "sampling": figures(second), "proposals": figures(fourth)}
    data |= {"checked": figures(fifth), "nearest": figures(third)}
    return Section(title="Densities, draws and neighbours in a latent space", text=text, data=data)


PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
