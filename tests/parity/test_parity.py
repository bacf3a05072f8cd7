"""Ours equals the originals: their stored outputs everywhere, and the originals themselves where they are installed."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import models, zoo
from tests.parity import originals

#: Share of the largest value of an output by which it may differ anywhere.
TOLERANCE = 1e-4


def vit(fill, config=originals.VIT):
    model = models.ViT(config)
    params = fill(jax.eval_shape(model.init, jax.random.key(0), originals.vit_images()))["params"]
    apply = jax.jit(model.apply)
    out = apply({"params": params}, originals.vit_images())
    resized = apply({"params": params}, originals.vit_images(64, 32))
    return params, {"logits": out.logits, "resized": resized.logits, "tokens": out.features.reshape(2, 6, -1)}


def nnunet(fill, plan):
    model = models.NNUNet(plan)
    params = fill(jax.eval_shape(model.init, jax.random.key(0), originals.volumes(plan)))["params"]
    out = jax.jit(model.apply)({"params": params}, originals.volumes(plan))
    return params, {f"logits_{i}": logits for i, logits in enumerate((out.logits, *out.deep_logits))}


def sam(fill):
    model, side = models.sam.SAM(originals.SAM), originals.SAM.image_size
    params = fill(jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, side, side, 3), np.float32)))["params"]
    image = jnp.asarray(originals.sam_image())
    points, labels, boxes, masks = map(jnp.asarray, originals.sam_prompts())
    variables = {"params": params}
    embedded = jax.jit(lambda x: models.sam.embed_image(model, variables, x))(image)
    outputs = {"input": models.sam.preprocess(image, image_size=side), "features": embedded.features}
    scaled = {"points": points * embedded.scale, "labels": labels}
    boxed = {"boxes": boxes * jnp.tile(embedded.scale, 2)}
    features = jnp.broadcast_to(embedded.features, (2, *embedded.features.shape))
    decode = jax.jit(functools.partial(model.apply, method="decode"))
    for name, prompts in {"points": scaled, "boxes": boxed, "everything": scaled | boxed | {"masks": masks}}.items():
        out = decode(variables, features, models.sam.Prompts(**prompts))
        outputs[f"{name}_logits"], outputs[f"{name}_quality"] = out.logits, out.quality
    many = models.sam.Prompts(points=points, labels=labels)
    predict = jax.jit(lambda e, p: models.sam.predict_masks(model, variables, e, p, size=image.shape[:2], batch_size=1))
    prediction = predict(embedded, many)
    np.testing.assert_allclose(prediction.quality, outputs["points_quality"], rtol=1e-3, atol=1e-4)
    outputs["masks"] = prediction.logits[:, ::4, ::4]
    return params, outputs


def sam_med2d(fill):
    model, images = models.sam.SAM(originals.SAM_MED2D), originals.numbers(1, 128, 128, 3)
    params = fill(jax.eval_shape(model.init, jax.random.key(0), images))["params"]
    features = jax.jit(functools.partial(model.apply, method="embed"))({"params": params}, images)
    return params, {"features": features[..., ::4]}


def sam_med3d(fill):
    model = models.sam.SAM(originals.SAM_MED3D)
    volume, points, labels, mask = map(jnp.asarray, originals.sam_volumes())
    params = fill(jax.eval_shape(model.init, jax.random.key(0), volume))["params"]
    features = jax.jit(functools.partial(model.apply, method="embed"))({"params": params}, volume)
    prompts = models.sam.Prompts(points=points, labels=labels, masks=mask)
    out = jax.jit(functools.partial(model.apply, method="decode"))({"params": params}, features, prompts)
    return params, {"features": features, "logits": out.logits, "quality": out.quality}


def lite_medsam(fill):
    """The parameters are a checkpoint of the original, so that its batch normalisations are folded on the way."""
    config, image = originals.LITE_MEDSAM, originals.lite_medsam_image()
    model = models.sam.TinyViT(config, config.tiny_vit)
    abstract = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    state = originals.lite_medsam_state(abstract)
    ours = zoo.convert(state, {"image_encoder": abstract}, layout=zoo.LAYOUTS["lite_medsam"], source="checkpoint")
    features = jax.jit(model.apply)({"params": ours["image_encoder"]}, image)
    return state, {"features": features}


CASES = {
    "lite_medsam": lite_medsam,
    "sam_med3d": sam_med3d,
    "sam_med2d": sam_med2d,
    "sam": sam,
    "vit": vit,
    "vit_mean": functools.partial(vit, config=originals.VIT_MEAN),
    "nnunet_2d": functools.partial(nnunet, plan=originals.NNUNET_2D),
    "nnunet_3d": functools.partial(nnunet, plan=originals.NNUNET_3D),
    "nnunet_residual": functools.partial(nnunet, plan=originals.NNUNET_RESIDUAL),
}


@pytest.fixture(scope="module")
def computed(fill):
    return functools.cache(lambda name: CASES[name](fill))


def sample(value):
    """Some hundred of the numbers."""
    return np.ravel(value)[:: np.size(value) // 200 | 1]


def assert_equal(got, expected, what):
    assert got.shape == expected.shape, what
    error = np.abs(np.asarray(got) - expected).max() / np.abs(expected).max()
    assert error < TOLERANCE, f"{what} differs by {error:.1e} of its largest value"


@pytest.mark.parametrize("name", CASES)
def test_equals_the_stored_output(name, computed):
    _, outputs = computed(name)
    with np.load(originals.STORED) as stored:
        for key, value in outputs.items():
            assert_equal(sample(value), stored[f"{name}/{key}"], key)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_equals_the_original(name, computed):
    torch, _ = pytest.importorskip("torch"), pytest.importorskip(originals.PACKAGES[name], exc_type=ImportError)
    params, outputs = computed(name)
    with torch.no_grad():
        expected = getattr(originals, name)(params)
    assert outputs.keys() == expected.keys()
    if os.environ.get("CARDIOJAX_STORE_OUTPUTS"):
        store({f"{name}/{key}": sample(value) for key, value in expected.items()})
    for key, value in outputs.items():
        assert_equal(value, expected[key], key)


def store(outputs):
    known = dict(np.load(originals.STORED)) if originals.STORED.exists() else {}
    np.savez_compressed(originals.STORED, **{**known, **outputs})
