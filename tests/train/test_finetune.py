"""Masks, partitions and low-rank updates on a small SAM: what is frozen stays, what is kept suffices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cardiojax import train
from cardiojax.models import sam

CONFIG = sam.SAMConfig(
    image_size=32, width=8, depth=1, num_heads=2, global_blocks=(0,), prompt_dim=16, adapters=True, attention_rows=None
)
DECODER = ("mask_decoder/*",)


@pytest.fixture(scope="module")
def params(fill):
    model = sam.SAM(CONFIG)
    return fill(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))))["params"]


def quadratic(params):
    """A loss that pulls at every leaf and needs no network."""
    return sum(jnp.square(leaf - 1).sum() for leaf in jax.tree.leaves(params))


def test_the_lecture_s_two_ways_choose_the_right_leaves(params):
    whole = train.trainable(params, ("image_encoder/*", "mask_decoder/*"))
    assert all(jax.tree.leaves([whole["image_encoder"], whole["mask_decoder"]]))
    assert not any(jax.tree.leaves(whole["prompt_encoder"]))
    light = train.trainable(params, ("*/adapter/*", "prompt_encoder/*", "!*/gaussian_matrix", "mask_decoder/*"))
    assert not light["image_encoder"]["patch_embed"]["kernel"]
    assert light["image_encoder"]["blocks_0"]["adapter"]["norm"]["scale"]
    assert light["prompt_encoder"]["no_mask_embed"]
    assert not light["prompt_encoder"]["gaussian_matrix"]
    with pytest.raises(ValueError, match="no parameter is named like 'head"):
        train.trainable(params, ("head/*",))


def test_a_partition_is_put_together_again(params):
    trained, frozen = train.partition(params, train.trainable(params, DECODER))
    assert list(trained) == ["mask_decoder"]
    assert "mask_decoder" not in frozen
    merged = train.merge(frozen, trained)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, merged, params)


def test_a_partition_trains_as_the_mask_of_optax(params):
    mask = train.trainable(params, DECODER)
    clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1))
    labels = jax.tree.map(lambda m: "train" if m else "freeze", mask)
    masked = optax.multi_transform({"train": clipped, "freeze": optax.set_to_zero()}, labels)
    trained, frozen = train.partition(params, mask)
    whole, part = train.init_state(params, masked), train.init_state(trained, clipped)
    for _ in range(3):
        whole, _ = train.train_step(whole, quadratic, optimizer=masked)
        part, _ = train.train_step(part, lambda p: quadratic(train.merge(frozen, p)), optimizer=clipped)
    jax.tree.map(np.testing.assert_array_equal, train.merge(frozen, part.params), whole.params)
    assert not np.array_equal(part.params["mask_decoder"]["iou_token"], params["mask_decoder"]["iou_token"])


def test_a_checkpoint_holds_the_trained_leaves_alone(params, tmp_path):
    optimizer = optax.sgd(0.1)
    trained, frozen = train.partition(params, train.trainable(params, DECODER))
    state = train.init_state(trained, optimizer)
    state, _ = train.train_step(state, quadratic, optimizer=optimizer)
    store = train.CheckpointStore(tmp_path)
    store.save(1, state, metadata={})
    size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    restored = store.restore(jax.eval_shape(lambda: state))
    assert restored is not None
    assert list(restored.state.params) == ["mask_decoder"]
    merged = train.merge(frozen, restored.state.params)
    jax.tree.map(np.testing.assert_array_equal, merged, train.merge(params, state.params))
    assert size < 2.2 * sum(leaf.nbytes for leaf in jax.tree.leaves(trained))  # parameters and their average


def test_lora_starts_as_nothing_and_has_its_rank(params):
    patterns = ("image_encoder/*/attn/*/kernel", "image_encoder/patch_embed/kernel")
    lora = train.init_lora(jax.random.key(0), params, patterns, rank=2)
    jax.tree.map(np.testing.assert_array_equal, train.add_lora(params, lora), params)
    assert sum(leaf.size for leaf in jax.tree.leaves(lora)) == 2 * ((8 + 24) + (8 + 8) + (16 * 16 * 3 + 8))

    def loss(lora):
        return quadratic(train.add_lora(params, lora, scale=0.5))

    optimizer = optax.sgd(0.01)
    state = train.init_state(lora, optimizer)
    for _ in range(2):
        state, _ = train.train_step(state, loss, optimizer=optimizer)
    changed = train.add_lora(params, state.params, scale=0.5)
    update = changed["image_encoder"]["patch_embed"]["kernel"] - params["image_encoder"]["patch_embed"]["kernel"]
    assert np.linalg.matrix_rank(np.asarray(update).reshape(-1, 8), tol=1e-5) == 2
    np.testing.assert_array_equal(changed["mask_decoder"]["iou_token"], params["mask_decoder"]["iou_token"])
    with pytest.raises(ValueError, match="only kernels"):
        train.init_lora(jax.random.key(0), params, ("*/norm1/scale",))
