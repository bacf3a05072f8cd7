"""Blocks and devices give the same report as one call."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import anatomy


@pytest.fixture(scope="module")
def masks(heart):
    drawn = [heart(tilt)[::2, ::2].astype(np.uint8) for tilt in range(-20, 24, 4)]
    drawn[3][20:22, 20:22] = 0
    return np.stack(drawn)


def test_blocks_from_disk_equal_one_call(masks, tmp_path):
    np.save(tmp_path / "masks.npy", masks)
    stored = np.load(tmp_path / "masks.npy", mmap_mode="r")
    reports = list(anatomy.check_stream(stored[i : i + 4] for i in range(0, len(stored), 4)))
    assert [len(report.valid) for report in reports] == [4, 4, 3]
    whole = jax.jit(functools.partial(anatomy.check))(jnp.asarray(masks, jnp.int32))
    for part, expected in zip(map(np.concatenate, zip(*reports, strict=True)), whole, strict=True):
        np.testing.assert_array_equal(part, expected)


def test_blocks_are_read_one_at_a_time(masks):
    """Two blocks are in memory: the third is not asked for before the first report is out."""
    asked = []

    def blocks():
        for i in range(3):
            asked.append(i)
            yield masks[:4]

    reports = anatomy.check_stream(blocks(), variant="code")
    next(reports)
    assert asked == [0, 1]


def test_refuses_blocks_that_do_not_fit(masks):
    with pytest.raises(ValueError, match="must fit in the first"):
        list(anatomy.check_stream([masks[:2], masks[:3]]))


def test_eight_devices_equal_one():
    code = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from cardiojax import anatomy, clinical
masks = np.random.default_rng(0).integers(0, 4, (16, 12, 12)).repeat(4, 1).repeat(4, 2)
mesh = jax.make_mesh((8,), ("data",))
split = jax.device_put(jnp.asarray(masks, jnp.int32), NamedSharding(mesh, PartitionSpec("data")))
one = jax.jit(anatomy.check)(jnp.asarray(masks, jnp.int32))
many = jax.jit(lambda m: anatomy.check_sharded(m, mesh))(split)
assert len(many.valid.sharding.device_set) == 8
(stream,) = anatomy.check_stream([masks[:13]], mesh=mesh)
for a, b, c in zip(one, many, stream):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a[:13], c)
area = jnp.asarray(100 + 30 * np.cos(np.arange(60) / 4 + np.arange(8)[:, None]), jnp.float32)
rows, cols = np.mgrid[:40, :40] - 20
hearts = np.stack([np.where(rows < 6, (np.hypot(rows, 1.6 * cols) < 16) + (np.hypot(rows, 1.6 * cols) < r), 0)
                   for r in range(6, 14)])
hearts = jnp.asarray(np.where(hearts > 0, 3 - hearts, 0).repeat(3, 1).repeat(3, 2), jnp.int32)
for function, arguments in (
    (clinical.detect_beats, (area,)),
    (clinical.endocardial_line, (hearts, jnp.ones(2))),
):
    first = jax.device_put(arguments[0], NamedSharding(mesh, PartitionSpec("data")))
    for a, b in zip(function(*arguments), function(first, *arguments[1:])):
        assert len(b.sharding.device_set) == 8
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)
print("equal")
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout.strip() == "equal", out.stderr
