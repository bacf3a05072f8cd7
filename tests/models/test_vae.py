"""Shape autoencoders: the paper's sizes, the two halves, sampling, the phase neuron, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import models

SMALL = models.VAEConfig(size=16, features=(4, 6), bottleneck=4, latent_size=3, regress_phase=True)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def small():
    model = models.VAE(SMALL)
    probs = jax.nn.softmax(jax.random.normal(jax.random.key(1), (3, 16, 16, 4)))
    return model, model.init(jax.random.key(0), probs), probs


def test_sizes_of_the_paper():
    model = models.VAE(models.VAE_PRESETS["cvae_paper"])
    abstract = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 256, 256, 4), jnp.float32))
    params = abstract["params"]
    assert params["encoder"]["Dense_0"]["kernel"].shape == (48 * 8 * 8, 2 * 32)
    assert params["decoder"]["Dense_0"]["kernel"].shape == (32, 48 * 8 * 8)
    assert params["phase"]["kernel"].shape == (32, 1)
    widths = [params["encoder"][f"ConvBlock_{i}"]["Conv_0"]["kernel"].shape[-1] for i in range(9)]
    assert widths == [48, 48, 96, 96, 192, 192, 384, 384, 48]
    # by hand: a 3 x 3 convolution has 9 c d + d parameters, a 2 x 2 transposed one 4 c d + d
    pairs = [(4, 48), (48, 48), (48, 96), (96, 96), (96, 192), (192, 192), (192, 384), (384, 384), (384, 48)]
    assert count(params["encoder"]) == sum(9 * c * d + d for c, d in pairs) + 3072 * 64 + 64


def test_without_training_the_mean_is_decoded_and_the_halves_compose(small):
    model, variables, probs = small
    output = model.apply(variables, probs)
    posterior = model.apply(variables, probs, method="encode")
    np.testing.assert_array_equal(output.codes, posterior.mean)
    np.testing.assert_allclose(output.logits, model.apply(variables, output.codes, method="decode"), atol=1e-6)
    assert output.logits.shape == (3, 16, 16, 4)


def test_in_training_the_code_is_drawn_from_the_posterior(small):
    model, variables, probs = small
    many = jnp.broadcast_to(probs[0], (2000, 16, 16, 4))
    output = model.apply(variables, many, train=True, rngs={"latent": jax.random.key(5)})
    np.testing.assert_allclose(output.codes.mean(0), output.posterior.mean[0], atol=0.1)
    np.testing.assert_allclose(output.codes.std(0), jnp.exp(output.posterior.log_var[0] / 2), rtol=0.1)


def test_the_phase_is_linear_in_the_mean(small):
    model, variables, probs = small
    output = model.apply(variables, probs)
    neuron = variables["params"]["phase"]
    expected = output.posterior.mean @ neuron["kernel"][:, 0] + neuron["bias"][0]
    np.testing.assert_allclose(output.phase, expected, atol=1e-6)
    plain = models.VAE(models.VAEConfig(size=16, features=(4,), bottleneck=4, latent_size=3))
    assert plain.apply(plain.init(jax.random.key(0), probs), probs).phase is None


def test_leading_axes(small):
    model, variables, probs = small
    clip, frames = model.apply(variables, probs[None]), model.apply(variables, probs)
    np.testing.assert_allclose(clip.logits[0], frames.logits, atol=1e-5)
    np.testing.assert_allclose(clip.phase[0], frames.phase, atol=1e-5)


def test_errors_name_the_sizes(small):
    model, variables, probs = small
    with pytest.raises(ValueError, match=r"\(16, 16, 4\)"):
        model.apply(variables, probs[:, :8])
    with pytest.raises(ValueError, match="multiple of 8"):
        models.VAE(models.VAEConfig(size=20, features=(4, 6))).init(jax.random.key(0), jnp.zeros((1, 20, 20, 4)))
