"""Proposals for rejection sampling in the latent space, on the codes of the CAMUS training masks.

The target P is the Parzen window of the 1,600 codes of ``cvae_camus`` (16 dimensions), its bandwidth chosen by
cross-validation. For each proposal Q: k and whether the bound is proved; the share of P's mass above k Q, which the
draws miss; the acceptance; the effective sample size of importance weights P / Q as a share of the proposals; draws per
second of processor time; and three two-sample tests of the accepted draws against direct draws of P: a
Kolmogorov-Smirnov test in each dimension (smallest p, Bonferroni), and permutation tests of the energy distance and of
the maximum mean discrepancy.

Run: ``python -m experiments.latent.latent_sampling --data DIR/camus_224 --out docs/results`` (about three minutes on
two cores). Writes ``latent_sampling.json`` and prints the table. Expected: only the widened windows and what is mixed
with them are usable; at c = 1.05, 46 % of the proposals are accepted and no test sees a difference.

References:
    Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020 (normal Q, quartile k);
    Hesterberg, "Weighted Average Importance Sampling and Defensive Mixture Distributions", 1995; Szekely and Rizzo,
    "Testing for Equal Distributions in High Dimension", 2004; Gretton et al., "A Kernel Two-Sample Test", 2012.
"""

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import stats
from scipy.spatial.distance import cdist

from cardiojax import latent
from cardiojax.correction.anatomical import load_shapes
from cardiojax.recipes.bank import encode_all
from cardiojax.types import RandomKey
from experiments.common.frames import training_labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is measured.

    Attributes:
        data: Folder with ``camus224_train.npz``.
        out: Folder for ``latent_sampling.json``.
        num_pilot: Draws of the target for the estimates.
        num_tested: Accepted draws that are compared with direct ones.
        num_timed: Accepted draws that are timed.
        num_permutations: Of each permutation test.
        max_proposals: A proposal is only drawn from if fewer are expected for the tested draws.
        limit: Codes, 0 for all.
    """

    data: Path
    out: Path
    num_pilot: int = 50_000
    num_tested: int = 2000
    num_timed: int = 200_000
    num_permutations: int = 499
    max_proposals: int = 20_000_000
    limit: int = 0


class StudentT(NamedTuple):
    """A multivariate Student-t density: heavier tails than the normal one."""

    mean: Float[Array, " d"]
    scale_tril: Float[Array, "d d"]
    freedom: Float[Array, ""]

    def log_prob(self, x: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        """Logarithm of the density at points."""
        dim, freedom = len(self.mean), self.freedom
        offsets = jax.scipy.linalg.solve_triangular(self.scale_tril, (x - self.mean).reshape(-1, dim).T, lower=True)
        squared = jnp.square(offsets).sum(0).reshape(x.shape[:-1])
        volume = jnp.log(jnp.diagonal(self.scale_tril)).sum() + 0.5 * dim * jnp.log(freedom * math.pi)
        gammas = jax.scipy.special.gammaln((freedom + dim) / 2) - jax.scipy.special.gammaln(freedom / 2)
        return gammas - volume - 0.5 * (freedom + dim) * jnp.log1p(squared / freedom)

    def sample(self, key: RandomKey, num_samples: int) -> Float[Array, "n d"]:
        """Independent draws."""
        normal_key, gamma_key = jax.random.split(key)
        noise = jax.random.normal(normal_key, (num_samples, len(self.mean))) @ self.scale_tril.T
        chi_square = 2 * jax.random.gamma(gamma_key, self.freedom / 2, (num_samples, 1))
        return self.mean + noise * jnp.sqrt(self.freedom / chi_square)


class Defensive(NamedTuple):
    """A mixture of a proposal with a share of a broad density: its k is at most that of the first over its weight."""

    first: Any
    broad: Any
    share: Float[Array, ""]
    log_bound: Float[Array, ""]

    def log_prob(self, x: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        """Logarithm of the density at points."""
        first, broad = self.first.log_prob(x), self.broad.log_prob(x)
        return jnp.logaddexp(first + jnp.log1p(-self.share), broad + jnp.log(self.share))

    def sample(self, key: RandomKey, num_samples: int) -> Float[Array, "n d"]:
        """Independent draws."""
        which, first_key, broad_key = jax.random.split(key, 3)
        is_broad = jax.random.bernoulli(which, self.share, (num_samples, 1))
        return jnp.where(is_broad, self.broad.sample(broad_key, num_samples), self.first.sample(first_key, num_samples))


class Setting(NamedTuple):
    """A proposal, the rule for k, and the target where it is another."""

    proposal: Any
    scale: str = "max"
    is_proved: bool = False
    target: latent.Parzen | None = None


def settings(codes: Float[Array, "m d"], window: latent.Parzen) -> dict[str, Setting]:
    """The proposals."""
    normal = latent.fit_gaussian(codes)
    kernel = window.scale_tril @ window.scale_tril.T
    inverse = jnp.linalg.inv(normal.scale_tril)
    whitened = (codes - normal.mean) @ inverse.T
    width = latent.select_bandwidth(jax.random.key(0), whitened)
    white_window = latent.Parzen(codes, width * normal.scale_tril)
    broad = normal._replace(scale_tril=jnp.linalg.cholesky(normal.scale_tril @ normal.scale_tril.T + kernel))
    widened, share = window.widened(1.05), 0.1
    found = {
        "normal, k = upper quartile (paper)": Setting(normal, "upper_quartile"),
        "normal, k = maximum": Setting(normal),
        "normal plus kernel": Setting(broad),
        "normal, whitened kernels": Setting(normal, target=white_window),
        "Student t, 4 degrees of freedom": Setting(StudentT(normal.mean, normal.scale_tril, jnp.float32(4))),
    }
    for num in (8, 64):
        mixture = latent.fit_mixture(jax.random.key(1), codes, num, covariance=kernel)
        found[f"mixture of {num}, full covariances"] = Setting(mixture)
    bound = widened.log_bound - math.log1p(-share)
    found["defensive: 0.9 window, c = 1.05, 0.1 normal"] = Setting(
        Defensive(widened, broad, jnp.float32(share), bound), is_proved=True
    )
    for factor in (1.02, 1.05, 1.1, 1.2):
        found[f"window, c = {factor}"] = Setting(window.widened(factor), is_proved=True)
    return found


def measure(setting: Setting, window: latent.Parzen, config: Config) -> dict[str, Any]:
    """Bound, acceptance and effective size from draws of the target; then the draws, if there can be any."""
    target = setting.target or window
    codes = target.codes
    points = target.sample(jax.random.key(2), config.num_pilot)
    log_ratio = np.asarray(target.log_prob(points) - setting.proposal.log_prob(points), np.float64)
    envelope = latent.measure_envelope(jax.random.key(3), target, setting.proposal, codes, setting.scale)
    log_k = float(envelope.log_scale)
    acceptance = np.exp(np.minimum(-log_ratio, -log_k)).mean()
    row: dict[str, Any] = {
        "log10_k": log_k / math.log(10),
        "proved": setting.is_proved,
        "mass_above_k": float((log_ratio > log_k + 1e-4).mean()),
        "acceptance": float(acceptance),
        # E_Q[w]^2 / E_Q[w^2] with w = P / Q, and E_Q[w^2] = E_P[w]
        "effective_size": float(np.exp(-(log_ratio.max() + np.log(np.exp(log_ratio - log_ratio.max()).mean())))),
    }
    if config.num_tested / acceptance > config.max_proposals:
        return row
    draw = latent.rejection_sample
    samples = draw(jax.random.key(4), target, setting.proposal, config.num_tested, scale=setting.scale)
    row["acceptance_drawn"] = float(samples.acceptance)
    direct = np.asarray(target.sample(jax.random.key(5), config.num_tested))
    row |= two_sample_tests(np.asarray(samples.values), direct, config.num_permutations)
    num = min(config.num_timed, int(config.max_proposals * acceptance))
    options = {"scale": setting.scale, "block_size": 4096}
    jax.block_until_ready(draw(jax.random.key(6), target, setting.proposal, num, **options))
    start = time.process_time()
    jax.block_until_ready(draw(jax.random.key(7), target, setting.proposal, num, **options))
    row["draws_per_second"] = num / (time.process_time() - start)
    return row


def two_sample_tests(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"], num_permutations: int
) -> dict[str, float]:
    """P values of the hypothesis that two samples come from one distribution."""
    each = min(stats.ks_2samp(a[:, i], b[:, i]).pvalue for i in range(a.shape[1]))
    points = np.concatenate([a, b])
    distances = cdist(points, points)
    width = np.median(distances)
    rng = np.random.default_rng(0)
    signs = np.repeat([1.0, -1.0], [len(a), len(b)])
    all_signs = np.stack([signs, *(rng.permutation(signs) for _ in range(num_permutations))], 1)
    found = {"ks": min(1.0, each * a.shape[1])}
    for name, kernel in {"energy": -distances, "mmd": np.exp(-np.square(distances / width) / 2)}.items():
        values = np.einsum("ip,ip->p", all_signs, kernel @ all_signs)
        found[name] = float((values >= values[0]).mean())
    return found


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| proposal | log10 k | bound | mass above kQ | acceptance | effective size | draws/s | KS | energy | MMD |",
        "|---" * 10 + "|",
    ]
    for name, row in rows.items():
        tests = [f"{row[t]:.2f}" if t in row else "-" for t in ("ks", "energy", "mmd")]
        rate = f"{row['draws_per_second']:,.3g}" if "draws_per_second" in row else "-"
        cells = [
            name, f"{row['log10_k']:.2f}", "proved" if row["proved"] else "estimated", f"{row['mass_above_k']:.3f}",
            f"{row['acceptance']:.2g}", f"{row['effective_size']:.2g}", rate, *tests,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(config: Config) -> dict[str, dict[str, Any]]:
    """Measures all proposals; returns the rows of the table."""
    shapes = load_shapes("cvae_camus")
    masks = training_labels(config.data)[: config.limit or None].astype(np.int32)
    codes = jnp.asarray(encode_all(shapes, masks))
    window = latent.fit_parzen(codes)
    rows = {}
    for name, setting in settings(codes, window).items():
        rows[name] = measure(setting, window, config)
        print(name, json.dumps(rows[name]), flush=True)
    found = {"num_codes": len(codes), "bandwidth": float(window.scale_tril[0, 0]), "proposals": rows}
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "latent_sampling.json").write_text(json.dumps(found, indent=2) + "\n")
    print(table(rows))
    return rows


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
