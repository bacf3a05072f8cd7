"""A Segment Anything model with learned prompts: untrained it answers as the SAM it is made of; it can be trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import losses, zoo
from cardiojax.models import sam

SMALL = sam.SAMConfig(
    image_size=64, width=16, depth=1, num_heads=2, global_blocks=(0,), prompt_dim=16, attention_rows=None
)
BOXES = jnp.array([[8.0, 8, 40, 40], [4, 4, 60, 60], [30, 20, 50, 44]])


@pytest.fixture(scope="module")
def variables(fill):
    model = sam.SAM(SMALL)
    return fill(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3))))


def test_untrained_logits_are_those_of_the_boxes(variables):
    images = jax.random.uniform(jax.random.key(1), (2, 64, 64, 1))
    model = sam.PromptFreeSAM(sam.PromptFreeSAMConfig(sam=SMALL))
    logits = model.apply(sam.from_sam(SMALL, variables, BOXES), images).logits
    assert logits.shape == (2, 64, 64, 4)
    np.testing.assert_array_equal(logits[..., 0], 0)
    features = sam.SAM(SMALL).apply(variables, sam.preprocess(images, image_size=64), method="embed")
    for k in range(3):
        boxes = sam.Prompts(boxes=jnp.tile(BOXES[k], (2, 1)))
        masks = sam.SAM(SMALL).apply(variables, features, boxes, method="decode").logits[..., 0]
        expected = jax.image.resize(masks, (2, 64, 64), "linear")
        np.testing.assert_allclose(logits[..., k + 1], expected, rtol=1e-4, atol=1e-4)


def test_images_of_any_size_and_a_gradient_for_every_prompt(variables):
    model = sam.PromptFreeSAM(sam.PromptFreeSAMConfig(sam=SMALL))
    params = sam.from_sam(SMALL, variables, BOXES)["params"]
    images = jax.random.uniform(jax.random.key(2), (3, 48, 80, 1))
    labels = jax.random.randint(jax.random.key(3), (3, 48, 80), 0, 4)

    @jax.jit
    @jax.grad
    def gradient(prompts):
        logits = model.apply({"params": {**params, "structure_prompts": prompts}}, images).logits
        return losses.dice_loss(logits, labels).mean()

    assert (jnp.abs(gradient(params["structure_prompts"])).max((-2, -1)) > 0).all()


def test_the_zoo_saves_and_loads_it(variables, tmp_path):
    params = sam.from_sam(SMALL, variables, BOXES)["params"]
    names = ("image_size", "patch_size", "tiny_vit", "unit_range", "width", "depth", "num_heads", "global_blocks")
    fields = {name: getattr(SMALL, name) for name in (*names, "prompt_dim", "attention_rows")}
    zoo.save(tmp_path / "w.safetensors", "lite_medsam_prompt_free", params, sam=fields)
    model, loaded = zoo.load(tmp_path / "w.safetensors")
    assert model.config.sam == SMALL
    np.testing.assert_array_equal(loaded["params"]["structure_prompts"], params["structure_prompts"])
