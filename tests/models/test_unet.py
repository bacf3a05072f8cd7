"""U-Net: parameter counts of the lecture, shapes, dtypes, equality of an image and a clip."""

import jax
import jax.export
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from cardiojax import models, zoo


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_parameter_counts_of_the_lecture():
    model = models.UNet(models.UNET_PRESETS["unet_lecture"])
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    assert count(params["down0_conv0"]) == 448
    assert count(params["down0_conv1"]) == 2_320
    assert count(params["up3"]) == 295_040


def test_packaged_architecture_has_1_94_million_parameters():
    assert count(zoo.abstract_variables("unet")) == 1_942_340


@pytest.fixture(scope="module")
def small():
    model = models.UNet(models.UNetConfig(features=(4, 8, 8), dropout=0.3))
    images = jax.random.uniform(jax.random.key(1), (3, 16, 24, 1))
    return model, model.init(jax.random.key(0), images), images


def test_a_clip_is_segmented_like_its_frames(small):
    model, variables, images = small
    frames = model.apply(variables, images)
    clip = model.apply(variables, images[None])
    np.testing.assert_allclose(clip.logits[0], frames.logits, atol=1e-5)
    assert frames.logits.shape == (3, 16, 24, 4)
    assert frames.features.shape == (3, 16, 24, 4)
    assert frames.bottleneck.shape == (3, 4, 6, 8)


def test_images_do_not_influence_each_other(small):
    model, variables, images = small
    together = model.apply(variables, images).logits
    alone = model.apply(variables, images[1:2]).logits
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)


def test_intensity_scale_is_normalised_away():
    model = models.UNet(models.UNetConfig(features=(4, 8)))
    images = jax.random.uniform(jax.random.key(1), (1, 16, 16, 1))
    variables = model.init(jax.random.key(0), images)
    np.testing.assert_allclose(
        model.apply(variables, images).logits, model.apply(variables, images * 0.5).logits, atol=2e-3
    )


def test_dropout_needs_a_key_and_only_acts_in_training(small):
    model, variables, images = small
    first = model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(1)}).logits
    second = model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(2)}).logits
    assert float(jnp.abs(first - second).max()) > 1e-4


def test_bfloat16_computes_low_and_returns_float32(small):
    _, _, images = small
    model = models.UNet(models.UNetConfig(features=(4, 8), dtype="bfloat16"))
    variables = model.init(jax.random.key(0), images)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    output = model.apply(variables, images)
    assert output.logits.dtype == jnp.float32
    assert output.features.dtype == jnp.bfloat16


def test_recomputing_changes_no_gradient_and_keeps_less(small):
    _, variables, images = small
    gradients, memory = [], []
    for remat in (False, True):
        model = models.UNet(models.UNetConfig(features=(4, 8, 8), remat=remat))
        gradient = jax.jit(jax.grad(lambda v, model=model: jnp.square(model.apply(v, images).logits).sum()))
        gradients.append(gradient(variables))
        _, saved = jax.eval_shape(lambda v, model=model: jax.vjp(lambda v: model.apply(v, images).logits, v), variables)
        memory.append(sum(leaf.size for leaf in jax.tree.leaves(saved)))
    for plain, again in zip(*map(jax.tree.leaves, gradients), strict=True):
        assert jnp.linalg.norm(plain - again) <= 1e-5 * jnp.linalg.norm(plain) + 1e-6
    assert memory[1] < 0.7 * memory[0]


def test_refusals(small):
    model, variables, _ = small
    with pytest.raises(ValueError, match=r"multiples of 4, got 18 x 16"):
        model.apply(variables, jnp.zeros((1, 18, 16, 1)))
    with pytest.raises(ValueError, match="norm must be"):
        models.UNet(models.UNetConfig(features=(4, 8), norm="batch")).init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


@pytest.fixture
def _shapes_unchecked():
    jaxtyping.config.update("jaxtyping_disable", True)  # it cannot bind symbolic sizes
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_shapes_unchecked")
def test_lowers_for_accelerators_with_symbolic_sizes():
    model = models.UNet(models.UNetConfig(features=(4, 8, 8)))
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32))
    shape = jax.export.symbolic_shape("b, 4*h, 4*w, 1")
    exported = jax.export.export(jax.jit(model.apply), platforms=["cpu", "cuda", "tpu"])(
        variables, jax.ShapeDtypeStruct(shape, jnp.float32)
    )
    assert exported.platforms == ("cpu", "cuda", "tpu")


def test_patches_start_at_half_the_resolution_and_end_at_the_full():
    model = models.UNet(models.UNetConfig(features=(4, 8), patch=2))
    images = jax.ShapeDtypeStruct((1, 16, 24, 1), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    output = jax.eval_shape(model.apply, variables, images)
    assert model.divisor == 4
    assert (output.logits.shape, output.features.shape) == ((1, 16, 24, 4), (1, 8, 12, 4))
    assert variables["params"]["down0_conv0"]["Conv_0"]["kernel"].shape == (3, 3, 4, 4)


def test_a_frame_alone_takes_the_place_of_both(fill):
    model = models.UNet(models.UNetConfig(features=(4, 8), frames=2))
    images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 1))
    variables = fill(jax.eval_shape(model.init, jax.random.key(0), images))
    twice = jnp.concatenate([images, images], -1)
    np.testing.assert_array_equal(model.apply(variables, images).logits, model.apply(variables, twice).logits)
    other = model.apply(variables, twice.at[..., 1].set(images[::-1, ..., 0])).logits
    assert float(jnp.abs(other - model.apply(variables, images).logits).max()) > 1e-3


@pytest.mark.parametrize("upsample", ["transpose", "nearest"])
def test_native_layers_give_the_same_logits_and_gradients(fill, kernels, upsample):
    plain, native = (
        models.UNet(models.UNetConfig(features=(16, 32), upsample=upsample), implementation=name)
        for name in ("xla", "native")
    )
    images = jax.random.uniform(jax.random.key(1), (2, 16, 24, 1))
    variables = fill(jax.eval_shape(plain.init, jax.random.key(0), images))
    assert jax.tree.structure(variables) == jax.tree.structure(jax.eval_shape(native.init, jax.random.key(0), images))

    def both(model):
        def loss(variables):
            logits = model.apply(variables, images).logits
            return jnp.sin(logits).mean(), logits

        gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(variables)
        return logits, gradients

    assert "custom_call @cardiojax_" in jax.jit(native.apply).lower(variables, images).as_text()
    for want, got in zip(*map(jax.tree.leaves, (both(plain), both(native))), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5 * float(jnp.abs(want).max()), rtol=0)
