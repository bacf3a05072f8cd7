"""Vision transformer: the lecture's figures, sizes, options that must not change the result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import models, ops, zoo

SMALL = models.ViTConfig(image_size=(32, 48), width=24, depth=2, num_heads=3, num_classes=5)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 48, 3)), jnp.float32)


def run(model, variables, images, **options):
    return jax.jit(lambda v, x: model.apply(v, x, **options))(variables, images)


def variables_of(model, fill, images):
    return fill(jax.eval_shape(model.init, jax.random.key(0), images))


def replace(config=SMALL, **changes):
    return models.ViT(models.ViTConfig(**{**vars(config), **changes}))


def test_figures_of_the_lecture():
    table = zoo.summary("vit_b16", depth=4)
    assert table["patch_embed"].weights == 16 * 16 * 3 * 768 == 589_824
    blocks = [row for row in table.rows if row.module.startswith("encoder/blocks_") and row.module.count("/") == 1]
    assert sum(row.weights for row in blocks) == 84_934_656
    assert table["encoder/blocks_0/attn/qkv"].weights == 12 * 3 * 768 * 64
    assert table[""].total == 86_567_656  # as timm's vit_base_patch16_224
    stacked = zoo.summary("vit_b16", depth=3, scan=True)
    assert stacked["encoder/blocks"].weights == 84_934_656
    assert "589,824" in str(table)
    unet = models.UNet(models.UNET_PRESETS["unet_lecture"])
    unet = zoo.summarize(jax.eval_shape(unet.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"])
    assert [unet[m].total for m in ("down0_conv0", "down0_conv1", "up3")] == [448, 2_320, 295_040]


@pytest.mark.parametrize(
    ("name", "total"), [("vit_ti16", 5_717_416), ("vit_s16", 22_050_664), ("vit_l16", 304_326_632)]
)
def test_sizes_are_those_of_timm(name, total):
    assert zoo.summary(name, depth=0)[""].total == total


def test_scan_remat_and_chunks_change_nothing(fill, images):
    model = replace(keep=(0, 1))
    variables = variables_of(model, fill, images)
    stacked = {
        "params": {
            **variables["params"],
            "encoder": models.stack_blocks(variables["params"]["encoder"], SMALL.depth),
        }
    }

    def loss(model):
        def value(v):
            out = model.apply(v, images)
            return (out.logits**2).sum() + (out.hidden[0] ** 2).sum()

        return jax.jit(jax.value_and_grad(value))

    value, grads = loss(model)(variables)
    got, got_grads = loss(replace(keep=(0, 1), scan=True, remat=True, attention_chunk=7))(stacked)
    np.testing.assert_allclose(got, value, rtol=1e-5)
    np.testing.assert_allclose(
        got_grads["params"]["encoder"]["blocks"]["attn"]["qkv"]["kernel"][1],
        grads["params"]["encoder"]["blocks_1"]["attn"]["qkv"]["kernel"],
        rtol=1e-3,
        atol=1e-3,
    )


def test_chunked_attention_has_the_same_gradients():
    q, k, v = (jnp.asarray(np.random.default_rng(i).normal(size=(2, 3, 6, 2, 4)), jnp.float32) for i in range(3))
    weights = jnp.arange(4.0)

    def total(chunk):
        return jax.jit(jax.grad(lambda *a: (ops.attention(*a, chunk=chunk) * weights).sum(), (0, 1, 2)))(q, k, v)

    for a, b in zip(total(None), total(2), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    with pytest.raises(ValueError, match="divide the 6 queries, got 4"):
        ops.attention(q, k, v, chunk=4)


def test_a_clip_is_encoded_like_its_frames(fill, images):
    model = replace(pool="mean", positions="sine")
    variables = variables_of(model, fill, images)
    clip, frames = run(model, variables, images[None]), run(model, variables, images)
    np.testing.assert_allclose(clip.features[0], frames.features, atol=1e-4)
    np.testing.assert_allclose(frames.pooled, frames.features.mean((1, 2)), atol=1e-5)
    assert frames.features.shape == (2, 2, 3, 24)
    assert not {"cls_token", "pos_embed"} & set(variables["params"])


def test_stochastic_depth_and_dropout_act_in_training_only(fill, images):
    model = replace(drop_path=0.5, dropout=0.1, scan=True)
    variables = variables_of(model, fill, images)

    @jax.jit
    def draw(key):
        return model.apply(variables, images, train=True, rngs={"dropout": key}).logits

    draws = [draw(jax.random.key(i)) for i in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert float(jnp.abs(draws[0] - draws[2]).max()) > 1e-3


def test_bfloat16_computes_low_and_returns_float32(fill, images):
    model = replace(dtype="bfloat16")
    variables = variables_of(model, fill, images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    out = run(model, variables, images)
    assert (out.logits.dtype, out.features.dtype) == (jnp.float32, jnp.bfloat16)
    exact = run(replace(), variables, images).logits
    np.testing.assert_allclose(out.logits, exact, atol=0.1 * float(jnp.abs(exact).max()))


def test_sine_positions_tell_every_cell_apart():
    positions = models.sine_positions(5, 7, 32)
    distance = jnp.linalg.norm(positions[:, None] - positions[None], axis=-1)
    assert float((distance + 10 * jnp.eye(35)).min()) > 0.1
    np.testing.assert_allclose(jnp.square(positions).sum(1), 16, rtol=1e-5)  # sines with their cosines


def test_positions_keep_a_linear_ramp():
    ramp = jnp.arange(8.0)[:, None]
    up = models.resize_positions(ramp, (1, 8), (1, 16))[:, 0]
    np.testing.assert_allclose(up[4:12], jnp.arange(4, 12) / 2 - 0.25, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"), [({"pool": "max"}, "pool must be"), ({"positions": "none"}, "positions must be")]
)
def test_refusals(changes, message, images):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(replace(**changes).init, jax.random.key(0), images)
    with pytest.raises(ValueError, match="multiples of 16, got 33 x 48"):
        jax.eval_shape(replace().init, jax.random.key(0), jnp.zeros((1, 33, 48, 3)))


def test_masked_autoencoder(fill, images):
    config = models.MAEConfig(encoder=SMALL, decoder_width=16, decoder_depth=1, decoder_heads=2, mask_ratio=0.5)
    model = models.MAE(config)
    rngs = {"params": jax.random.key(0), "mask": jax.random.key(1)}
    variables = fill(jax.eval_shape(model.init, rngs, images))

    @jax.jit
    def reconstruct(variables, images, key):
        return model.apply(variables, images, rngs={"mask": key})

    out = reconstruct(variables, images, jax.random.key(2))
    assert out.is_hidden.sum(-1).tolist() == [3, 3]
    # pixels that were hidden cannot reach the prediction
    hidden = jnp.repeat(jnp.repeat(out.is_hidden.reshape(2, 2, 3), 16, 1), 16, 2)[..., None]
    changed = reconstruct(variables, jnp.where(hidden, 9.0, images), jax.random.key(2))
    np.testing.assert_array_equal(changed.patches, out.patches)
    # the loss is that of the hidden patches against their normalised pixels
    patches = np.asarray(images).reshape(2, 2, 16, 3, 16, 3).swapaxes(2, 3).reshape(2, 6, 768)
    target = (patches - patches.mean(-1, keepdims=True)) / patches.std(-1, ddof=1, keepdims=True)
    error = ((np.asarray(out.patches) - target) ** 2).mean(-1)
    np.testing.assert_allclose(
        out.loss, [e[h].mean() for e, h in zip(error, np.asarray(out.is_hidden), strict=True)], rtol=1e-4
    )
    vit = models.ViT(models.ViTConfig(**{**vars(SMALL), "num_classes": 0}))
    expected = jax.tree.structure(jax.eval_shape(vit.init, jax.random.key(0), images)["params"])
    assert jax.tree.structure(variables["params"]["encoder"]) == expected


def test_unetr_sees_the_whole_image(fill):
    encoder = models.ViTConfig(
        image_size=(32, 32), width=16, depth=4, num_heads=2, patch_size=8, pool="mean", num_classes=0
    )
    model = models.UNETR(models.UNETRConfig(encoder=encoder, features=4))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 32, 32, 1)), jnp.float32)
    variables = variables_of(model, fill, images)
    out = run(model, variables, images)
    assert out.logits.shape == (1, 32, 32, 4)
    moved = run(model, variables, images.at[0, 31, 31].add(3.0))
    assert float(jnp.abs(moved.bottleneck - out.bottleneck)[0, 0, 0].max()) > 1e-4
