"""A training step on eight virtual devices equals that on one."""

import os
import subprocess
import sys

PROGRAM = """
import functools, tempfile, jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import NamedSharding, PartitionSpec
from cardiojax import models, train
from cardiojax.models import sam

mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
rng = np.random.default_rng(0)
images = jnp.asarray(rng.normal(size=(8, 32, 32, 3)), jnp.float32)
split_images = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def fill(abstract):
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 5, jnp.float32), abstract)


vit = models.ViT(models.ViTConfig(width=16, num_heads=2, depth=2, scan=True, image_size=(32, 32), num_classes=3))
optimizer = optax.sgd(0.1, momentum=0.9)


@jax.jit
def step(state, images):
    def loss(params):
        return jnp.square(vit.apply({"params": params}, images).logits - 1).mean()

    return train.train_step(state, loss, optimizer=optimizer)


state = train.init_state(fill(jax.eval_shape(vit.init, jax.random.key(0), images[:1])["params"]), optimizer)
split = jax.device_put(state, train.shardings(state, mesh, rules={**train.RULES, "embed": "data"}))
for tree in (split.params, split.ema, split.opt_state[0].trace):
    block = tree["encoder"]["blocks"]
    assert block["mlp"]["fc1"]["kernel"].sharding.spec == PartitionSpec(None, "data", "tensor")
    assert block["attn"]["proj"]["kernel"].sharding.spec == PartitionSpec(None, "tensor", "data")
(one, metrics_one), (many, metrics_many) = step(state, images), step(split, split_images)
close(metrics_many["loss"], metrics_one["loss"])
jax.tree.map(close, many, one)
with tempfile.TemporaryDirectory() as folder:
    store = train.CheckpointStore(folder)
    store.save(1, many, metadata={})
    restored = store.restore(split).state
jax.tree.map(np.testing.assert_array_equal, restored, many)
assert all(jax.tree.leaves(jax.tree.map(lambda a, b: a.sharding == b.sharding, restored, split)))

encoder = sam.SAM(
    sam.SAMConfig(width=16, num_heads=2, depth=1, image_size=32, global_blocks=(0,), prompt_dim=16, attention_rows=None)
)
params = fill(jax.eval_shape(encoder.init, jax.random.key(0), images[:1])["params"])
split = jax.device_put(params, train.shardings(params, mesh))
assert split["image_encoder"]["blocks_0"]["attn"]["qkv"]["kernel"].sharding.spec == PartitionSpec(None, "tensor")
assert split["mask_decoder"]["transformer"]["layers_0"]["mlp"]["lin1"]["bias"].sharding.spec == PartitionSpec("tensor")
embed = jax.jit(lambda params, images: encoder.apply({"params": params}, images, method="embed"))
close(embed(split, split_images), embed(params, images))

explicit = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
on_explicit = jax.device_put(images, NamedSharding(explicit, PartitionSpec("data")))
for call in (lambda: step(state, on_explicit), lambda: train.shardings(params, explicit)):
    try:
        call()
    except ValueError as error:
        assert "expected automatic ones" in str(error)
    else:
        raise AssertionError("accepted")
print(jax.device_count())
"""


def test_a_step_on_eight_devices_is_that_on_one():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env={**os.environ, **flags})
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "8"
