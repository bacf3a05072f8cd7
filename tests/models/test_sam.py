"""SAM: sizes of the originals, prompts by the hundred, adapters, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import zoo
from cardiojax.models import sam

SMALL = sam.SAMConfig(
    image_size=64, width=16, depth=2, num_heads=2, global_blocks=(1,), window=3, prompt_dim=16, attention_rows=None
)


def replace(**changes):
    return sam.SAM(sam.SAMConfig(**{**vars(SMALL), **changes}))


@pytest.fixture(scope="module")
def small(fill):
    model = sam.SAM(SMALL)
    return model, fill(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3))))


def image(h=40, w=60):
    return jnp.asarray(np.random.default_rng(0).random((h, w, 1)), jnp.float32)


@pytest.mark.parametrize(
    ("name", "total", "encoder"),
    [
        ("sam_b", 93_735_472, 89_670_912),
        ("sam_l", 312_342_832, 308_278_272),
        ("sam_h", 641_090_608, 637_026_048),
        ("sam_med2d", 271_241_776, 267_177_216),
    ],
)
def test_sizes_are_those_of_the_originals(name, total, encoder):
    table = zoo.summary(name, depth=1)
    gaussian = 2 * 128  # a buffer in the original, which its count leaves out
    assert table[""].total == total + gaussian
    assert table["image_encoder"].total == encoder
    assert table["prompt_encoder"].total == 6_220 + gaussian
    assert table["mask_decoder"].total == 4_058_340


def test_the_size_in_volumes_is_that_of_the_original():
    table = zoo.summary("sam_med3d", depth=1)
    gaussian = 3 * 128
    assert table[""].total == 100_509_232 + gaussian
    parts = [table[m].total for m in ("image_encoder", "prompt_encoder", "mask_decoder")]
    assert parts == [92_924_928, 8_668 + gaussian, 7_575_636]


def test_volumes_know_no_boxes():
    model = replace(num_axes=3, channels=1, prompt_dim=24)
    with pytest.raises(ValueError, match="knows no boxes"):
        jax.eval_shape(
            model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 64, 1)), sam.Prompts(boxes=jnp.zeros((1, 4)))
        )


def test_an_adapter_has_15_million_parameters():
    table = zoo.summary("sam_med2d", depth=3)
    assert table["image_encoder/blocks_0/adapter"].total == 15_042_048


def test_many_prompts_are_answered_as_one_by_one(small):
    model, variables = small
    embedded = jax.jit(lambda x: sam.embed_image(model, variables, x))(image())
    boxes = jnp.asarray(np.random.default_rng(1).uniform(0, 40, (6, 4)), jnp.float32)
    together = jax.jit(
        lambda e, b: sam.predict_masks(model, variables, e, sam.Prompts(boxes=b), size=(40, 60), batch_size=3)
    )(embedded, boxes)
    assert together.logits.shape == (6, 40, 60, 4)

    @jax.jit
    def alone(box):
        scaled = sam.Prompts(boxes=box * jnp.tile(embedded.scale, 2))
        out = model.apply(variables, embedded.features, scaled, method="decode")
        return sam.postprocess(out.logits, image_size=64, size=(40, 60)), out.quality

    for i in (0, 5):
        logits, quality = alone(boxes[i])
        np.testing.assert_allclose(together.logits[i], logits, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(together.quality[i], quality, rtol=1e-3, atol=1e-3)


def test_a_batch_of_images_with_their_own_boxes_is_three_single_calls(small):
    model, variables = small
    rng = np.random.default_rng(4)
    images = jnp.asarray(rng.random((3, 40, 60, 1)), jnp.float32)
    boxes = jnp.asarray(rng.uniform(0, 40, (3, 2, 4)), jnp.float32)

    @jax.jit
    def segment(image, boxes):
        embedded = sam.embed_image(model, variables, image)
        return sam.predict_masks(model, variables, embedded, sam.Prompts(boxes=boxes), size=(40, 60)).logits

    together = jax.jit(jax.vmap(segment))(images, boxes)
    for i in range(3):
        np.testing.assert_allclose(together[i], segment(images[i], boxes[i]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(720, 1280), (1280, 720)], ids=["landscape", "portrait"])
def test_boxes_and_masks_round_trip_within_a_pixel(size):
    rows, cols = np.arange(size[0])[:, None], np.arange(size[1])
    box = 0.25 * np.array([size[0], size[1], 2 * size[0], 2 * size[1]])
    # a smooth mask, so that what is measured is the geometry and not the resolution of the decoder
    inside = np.minimum(np.minimum(rows - box[0], box[2] - rows), np.minimum(cols - box[1], box[3] - cols))
    logits = jnp.asarray(inside, jnp.float32)[..., None]
    low, high = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    shown = sam.preprocess(logits, image_size=1024) * high + low
    padded = jnp.where(jnp.arange(1024)[:, None, None] < sam.resized_shape(*size, 1024)[0], shown[..., :1] / 255, -1)
    back = sam.postprocess(padded, image_size=1024, size=size)[..., 0] > 0
    np.testing.assert_allclose(sam.mask_box(back), box, atol=1)


def test_a_loop_follows_from_the_boxes_of_its_first_frame(small):
    model, variables = small
    frames = jnp.asarray(np.random.default_rng(5).random((3, 40, 60, 1)), jnp.float32)
    boxes = jnp.array([[5.0, 5.0, 20.0, 30.0], [10.0, 20.0, 35.0, 50.0]])
    run = jax.jit(lambda frames, boxes: sam.segment_loop(model, variables, frames, boxes, margin=0.1))
    masks, prompts, quality = run(frames, boxes)
    assert (masks.shape, prompts.shape, quality.shape) == ((3, 2, 40, 60), (3, 2, 4), (3, 2))
    np.testing.assert_array_equal(prompts[0], boxes)

    @jax.jit
    def segment(frame, boxes):
        embedded = sam.embed_image(model, variables, frame)
        return sam.predict_masks(model, variables, embedded, sam.Prompts(boxes=boxes), size=(40, 60)).logits[..., 0]

    for t in range(3):
        np.testing.assert_array_equal(masks[t], segment(frames[t], prompts[t]) > 0)
    for mask, box, following in zip(masks[0], prompts[0], prompts[1], strict=True):
        if not mask.any():
            np.testing.assert_array_equal(following, box)
            continue
        top, left, bottom, right = map(float, sam.mask_box(mask))
        grown = [top - 0.1 * (bottom - top), left - 0.1 * (right - left)]
        grown += [bottom + 0.1 * (bottom - top), right + 0.1 * (right - left)]
        np.testing.assert_allclose(following, np.clip(grown, 0, [39, 59, 39, 59]), atol=1e-4)


def test_what_depends_on_the_image_is_computed_once():
    model = replace(image_size=256)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 256, 256, 3)))

    def flops(num_prompts):
        def decode(variables, features, boxes):
            def one(box):
                return model.apply(variables, features, sam.Prompts(boxes=box), method="decode").logits

            return jax.vmap(one)(boxes)

        lowered = jax.jit(decode).lower(variables, jnp.zeros((16, 16, 16)), jnp.zeros((num_prompts, 4)))
        return lowered.cost_analysis()["flops"]

    one, two, three = (flops(n) for n in (1, 2, 3))
    assert three - two == pytest.approx(two - one, rel=1e-3)
    shared = one - (two - one)
    projections = 2 * 3 * 256 * 16 * 8  # keys, values and queries of the first layer, of 256 patches
    assert shared >= projections


def test_a_point_that_is_none_changes_nothing(small):
    model, variables = small
    features = jnp.asarray(np.random.default_rng(2).normal(size=(4, 4, 16)), jnp.float32)

    @jax.jit
    def run(points, labels):
        return model.apply(variables, features, sam.Prompts(points, labels), method="decode").logits

    def decode(points, labels):
        return run(jnp.asarray(points), jnp.asarray(labels))

    a = decode([[5.0, 9.0], [1.0, 2.0]], [1, -1])
    b = decode([[5.0, 9.0], [50.0, 60.0]], [1, -1])
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert float(jnp.abs(a - decode([[5.0, 9.0], [50.0, 60.0]], [1, 1])).max()) > 1e-3


def test_rows_at_a_time_remat_and_bfloat16(small):
    model, variables = small
    x = sam.preprocess(image(), image_size=64)

    def run(model):
        return jax.jit(lambda x: model.apply(variables, x, method="embed"))(x)

    expected = run(model)
    np.testing.assert_allclose(run(replace(attention_rows=2, remat=True)), expected, atol=1e-4)
    low = run(replace(dtype="bfloat16"))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(jnp.float32), expected, atol=0.1 * float(jnp.abs(expected).max()))


def test_masks_come_back_where_they_were():
    side, size = 64, (40, 60)
    truth = jnp.zeros(size).at[8:24, 15:45].set(1.0)
    shown = sam.preprocess(truth[..., None], image_size=side)[..., 0] * 58.395 + 123.675
    seen = shown.reshape(16, 4, 16, 4).mean((1, 3))[..., None] / 255  # at the decoder's resolution
    back = sam.postprocess(seen - 0.5, image_size=side, size=size)[..., 0] > 0
    dice = 2 * (back & (truth > 0)).sum() / (back.sum() + truth.sum())
    assert dice > 0.85
    assert sam.resized_shape(40, 60, 64) == (43, 64)


def test_weights_move_to_another_size(small):
    _, variables = small
    model = replace(image_size=128)
    resized = sam.resize_parameters(variables["params"], model.config)
    expected = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 128, 128, 3)))["params"]
    assert jax.tree.map(jnp.shape, resized) == jax.tree.map(lambda leaf: leaf.shape, expected)
    back = sam.resize_parameters(variables["params"], SMALL)
    jax.tree.map(np.testing.assert_array_equal, back, variables["params"])


def test_linear_tables_are_those_of_pytorch(small):
    torch = pytest.importorskip("torch")
    _, variables = small
    table = variables["params"]["image_encoder"]["blocks_1"]["attn"]["rel_pos_h"]
    resized = sam.resize_parameters(variables["params"], replace(image_size=32).config)
    expected = torch.nn.functional.interpolate(torch.tensor(np.asarray(table)).T[None], size=3, mode="linear")[0].T
    got = resized["image_encoder"]["blocks_1"]["attn"]["rel_pos_h"]
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_images_are_stretched_to_the_unit_interval(keep_aspect):
    out = sam.preprocess(3 * image() + 7, image_size=32, unit_range=True, keep_aspect=keep_aspect)
    assert out.shape == (32, 32, 3)
    assert (float(out.min()), float(out.max())) == pytest.approx((0, 1))
    assert (not out[-1].any()) == keep_aspect  # 40 x 60 pixels are padded below


def test_the_size_of_lite_medsam_is_that_of_its_checkpoint():
    table = zoo.summary("lite_medsam", depth=1)
    assert table["prompt_encoder"].total == 6_220 + 2 * 128
    assert table["mask_decoder"].total == 4_058_340
    assert table["image_encoder"].total == 5_726_740 - 4_928  # without the scales of 4,928 batch-normalised channels


def test_images_of_another_size_are_refused(small):
    model, variables = small
    with pytest.raises(ValueError, match="images must be 64 x 64 x 3, got 32 x 32 x 3"):
        model.apply(variables, jnp.zeros((1, 32, 32, 3)))


def test_silent_adapters_change_nothing_in_a_tiny_vit(fill):
    sizes = sam.TinyViTConfig(widths=(4, 6, 8, 10), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2), windows=(2, 2, 2, 2))
    config = {"image_size": 32, "patch_size": 4, "prompt_dim": 16, "tiny_vit": sizes}
    plain, adapted = (sam.SAM(sam.SAMConfig(**config, adapters=a)) for a in (False, True))
    images = jnp.asarray(np.random.default_rng(0).random((1, 32, 32, 3)), jnp.float32)
    variables = fill(jax.eval_shape(adapted.init, jax.random.key(0), images))
    blocks = {name for name, block in variables["params"]["image_encoder"].items() if "adapter" in block}
    assert blocks == {"layers_1_blocks_0", "layers_2_blocks_0", "layers_3_blocks_0"}

    def silence(path, leaf):
        return 0 * leaf if path[-2].key == "norm" and path[-3].key == "adapter" else leaf

    silent = jax.tree_util.tree_map_with_path(silence, variables)
    expected = plain.apply(variables, images, method="embed")
    np.testing.assert_allclose(adapted.apply(silent, images, method="embed"), expected, atol=1e-6)
    assert jnp.abs(adapted.apply(variables, images, method="embed") - expected).max() > 1e-3
