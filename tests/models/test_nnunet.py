"""nnU-Net: plans of the original planner, networks, loss, optimizer."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cardiojax import losses, models, train, zoo
from cardiojax.models.nnunet import layers

PLANS = json.loads((Path(__file__).parent / "plans.json").read_text())


def tuples(value):
    return tuple(map(tuples, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("case", PLANS, ids=lambda c: f"{c['preset']}-{len(c['spacing'])}d-{c['shape'][0]}")
def test_plans_are_those_of_the_original(case):
    made = models.make_plan(case["spacing"], case["shape"], num_images=case["num_images"], preset=case["preset"])
    for field in ("patch_size", "batch_size", "strides", "kernels", "features"):
        assert getattr(made, field) == tuples(case[field]), field
    assert made.residual == (case["preset"] != "plain")


def test_a_plan_is_saved_printed_and_read(tmp_path):
    made = models.make_plan((5.0, 1.56, 1.56), (18, 237, 208), num_channels=2)
    made.save(tmp_path / "plan.json")
    assert models.Plan.load(tmp_path / "plan.json") == made
    assert "20 x 256 x 224" in str(made)
    assert made.separate_axis == 0
    for text in ("{}", "[1]", "not json", '{"spacing": [1], "other": 2}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=r"bad.json: not a plan"):
            models.Plan.load(tmp_path / "bad.json")


def test_a_coarse_axis_gets_its_tenth_percentile():
    spacings = np.array([[s, 1.0, 1.0] for s in (4, 5, 5, 5, 6, 8, 8, 8, 10, 10)], float)
    shapes = np.full((10, 3), (10, 200, 200))
    assert models.target_spacing(spacings, shapes) == pytest.approx((4.9, 1, 1))
    assert models.target_spacing(spacings, np.full((10, 3), 100)) == (7, 1, 1)
    spacings[:5, 0] = 0.5
    spacings[5:, 0] = 8
    assert models.target_spacing(spacings, shapes)[0] == pytest.approx(1.00001)


def test_refusals():
    with pytest.raises(ValueError, match="same 2 or 3 axes"):
        models.make_plan((1.0,), (10,))
    with pytest.raises(ValueError, match=r"multiples of \(4, 32, 32\), got \(6, 64, 64\)"):
        jax.eval_shape(zoo.create("nnunet_2dt").init, jax.random.key(0), jnp.zeros((1, 6, 64, 64, 1)))


def test_an_image_is_segmented_like_a_batch(fill):
    small = dataclasses.replace(models.NNUNET_PRESETS["nnunet_2d"], features=(2,) * 7)
    model = models.NNUNet(small)
    image = jnp.asarray(np.random.default_rng(0).normal(size=(64, 64, 1)), jnp.float32)
    variables = fill(jax.eval_shape(model.init, jax.random.key(0), image))
    logits = jax.jit(lambda x: model.apply(variables, x).logits)
    np.testing.assert_allclose(logits(image), logits(image[None, None])[0, 0], atol=1e-4)


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3)])
def test_volumes_are_convolved_as_by_xla(kernel):
    """Values and gradients, whatever way the backend takes."""
    rng = np.random.default_rng(0)
    x, weights, target = (rng.normal(size=s).astype(np.float32) for s in ((2, 4, 6, 5, 3), (*kernel, 3, 4), (4,)))
    layer = layers.ConvNormAct(4, kernel, activate=False)
    norm = {"scale": jnp.ones(4), "bias": jnp.zeros(4)}

    def ours(x, weights):
        variables = {"params": {"conv": {"kernel": weights, "bias": jnp.zeros(4)}, "norm": norm}}
        return layer.apply(variables, x)

    def plain(x, weights):
        y = jax.lax.conv_general_dilated(x, weights, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))
        y -= y.mean((1, 2, 3), keepdims=True)
        return y / jnp.sqrt(jnp.square(y).mean((1, 2, 3), keepdims=True) + 1e-5)

    made = [
        jax.jit(jax.value_and_grad(lambda *a, f=f: (jnp.sin(f(*a)) * target).sum(), (0, 1)))(x, weights)
        for f in (ours, plain)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *made)


def test_lower_heads_cost_nothing_unless_used(fill):
    model = models.NNUNet(dataclasses.replace(models.NNUNET_PRESETS["nnunet_2d"], features=(2,) * 7))
    image = jnp.zeros((64, 64, 1))
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    text = jax.jit(lambda v, x: model.apply(v, x).logits).lower(variables, image).as_text()
    everything = jax.jit(model.apply).lower(variables, image).as_text()
    assert everything.count("stablehlo.convolution") - text.count("stablehlo.convolution") == 5


def test_deep_supervision_weights():
    labels = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, 8, 8)))
    logits = [jnp.zeros((2, 8 // s, 8 // s, 3)) for s in (1, 2, 4)]
    each = iter((3.0, 6.0))

    def loss(scores, truth):
        assert truth.shape == scores.shape[:-1]
        return jnp.full(2, next(each))

    np.testing.assert_allclose(losses.deep_supervision_loss(loss, logits, labels), (3 * 1 + 6 * 0.5) / 1.5)
    one = losses.deep_supervision_loss(losses.cross_entropy_loss, logits[:1], labels)
    np.testing.assert_allclose(one, np.log(3), rtol=1e-6)


def test_rate_falls_by_epochs():
    optimizer = train.make_nnunet_optimizer(
        train.NNUNetOptimizerConfig(momentum=0.0, weight_decay=0.0, steps_per_epoch=2), num_steps=6
    )
    state, params, steps = optimizer.init(jnp.zeros(1)), jnp.zeros(1), []
    for _ in range(6):
        updates, state = optimizer.update(jnp.ones(1), state, params)
        steps.append(-float(updates[0]))
    np.testing.assert_allclose(steps, np.repeat(0.01 * (1 - np.array([0, 2, 4]) / 6) ** 0.9, 2), rtol=1e-5)


def test_optimizer_equals_pytorch():
    torch = pytest.importorskip("torch")
    start, grads = np.arange(4.0), np.random.default_rng(0).normal(size=(5, 4)) * 10
    theirs = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
    sgd = torch.optim.SGD([theirs], 1e-2, momentum=0.99, weight_decay=3e-5, nesterov=True)
    optimizer = train.make_nnunet_optimizer(train.NNUNetOptimizerConfig(), 250_000)
    ours = jnp.asarray(start, jnp.float32)
    state = optimizer.init(ours)
    for grad in grads.astype(np.float32):
        theirs.grad = torch.tensor(grad)
        torch.nn.utils.clip_grad_norm_([theirs], 12)
        sgd.step()
        updates, state = optimizer.update(jnp.asarray(grad), state, ours)
        ours = optax.apply_updates(ours, updates)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("size", [(16, 24), (4, 16, 24)], ids=["image", "clip"])
def test_native_layers_give_the_same_logits_and_gradients(fill, kernels, size, residual):
    num_axes = len(size)
    plan = models.Plan(
        spacing=(1.0,) * num_axes,
        patch_size=size,
        features=(16, 32),
        kernels=((3,) * num_axes,) * 2,
        strides=((1,) * num_axes, (1, 2, 2)[-num_axes:]),
        blocks=(1, 2),
        decoder_convs=1,
        residual=residual,
    )
    plain, native = (models.NNUNet(plan, implementation=name) for name in ("xla", "native"))
    images = jax.random.normal(jax.random.key(1), (2, *size, 1))
    variables = fill(jax.eval_shape(plain.init, jax.random.key(0), images))

    def both(model):
        def loss(variables):
            logits = model.apply(variables, images).logits
            return jnp.sin(logits).mean(), logits

        gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(variables)
        biases = jax.tree_util.tree_leaves_with_path(gradients)
        # the normalisation cancels the biases of convolutions, whose gradients are rounding errors
        return [logits, *(leaf for path, leaf in biases if not ("conv" in str(path) and "bias" in str(path)))]

    for want, got in zip(both(plain), both(native), strict=True):
        np.testing.assert_allclose(got, want, atol=5e-5 * float(jnp.abs(want).max()), rtol=0)
