"""Every method: one contract, known answers, and images that cannot be segmented."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

from cardiojax import uncertainty

SIZE = 32
KEY = jax.random.key(0)


def network(weights, images):
    """Brighter pixels are foreground: no training needed, and NaN in is NaN out."""
    return 20 * (images - 0.5) * weights


def noisy(key, images):
    return network(WEIGHTS * (1 + 0.3 * jax.random.normal(key, (4,))), images)


WEIGHTS = jnp.array([-1.0, 1.0, 0.5, 0.2])
MEMBERS = uncertainty.stack_members([WEIGHTS, 2 * WEIGHTS, WEIGHTS[::-1]])


def codes_of(images):
    raw = images.reshape(*images.shape[:-3], -1)[..., ::100]
    return raw / jnp.linalg.norm(raw, axis=-1, keepdims=True)


def bank(num=20):
    images = jax.random.uniform(jax.random.key(7), (num, SIZE, SIZE, 1))
    return uncertainty.ShapeBank(codes_of(images), network(WEIGHTS, images).argmax(-1).astype(jnp.uint8))


BANK = bank()


def labels_of(images):
    return network(WEIGHTS, images).argmax(-1).astype(jnp.int32)


METHODS = {
    "entropy": lambda images: uncertainty.softmax_entropy(images, jax.nn.softmax(network(WEIGHTS, images))),
    "mc_dropout": lambda images: uncertainty.mc_dropout(KEY, images, noisy, num_passes=5),
    "tta": lambda images: uncertainty.tta(KEY, images, functools.partial(network, WEIGHTS), num_samples=3, flip=True),
    "deep_ensemble": lambda images: uncertainty.deep_ensemble(images, network, MEMBERS),
    "learned_confidence": lambda images: uncertainty.learned_confidence(
        images, labels_of(images), jax.nn.sigmoid(network(WEIGHTS, images)[..., 1])
    ),
    "heteroscedastic": lambda images: uncertainty.heteroscedastic(
        images, network(WEIGHTS, images), jax.nn.softplus(network(WEIGHTS, images)) / 4
    ),
    "edge": lambda images: uncertainty.edge(images, labels_of(images)),
    "crisp": lambda images: uncertainty.crisp(images, labels_of(images), codes_of(images), BANK, num_samples=7),
}


def disk(radius=8.0):
    rows, cols = jnp.meshgrid(jnp.arange(SIZE) - SIZE / 2, jnp.arange(SIZE) - SIZE / 2, indexing="ij")
    return jax.nn.sigmoid(radius - jnp.hypot(rows, cols))[..., None]


@pytest.mark.parametrize("name", METHODS)
def test_alone_in_a_batch_and_under_jit_a_result_is_the_same(name):
    method = METHODS[name]
    images = jnp.stack([disk(6.0), disk(10.0)])
    images = images[None] if name in ("mc_dropout", "tta") else images
    together = jax.jit(method)(images)
    eager = method(images)
    assert together.map.shape == images.shape[:-1]
    assert together.score.shape == images.shape[:-3]
    for a, b in zip(together, eager, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4)
    assert 0 <= float(together.map.min()) <= float(together.map.max()) <= 1
    if images.ndim == 4:
        for a, b in zip(together, method(images[1]), strict=True):
            np.testing.assert_allclose(a[1], b, atol=1e-4, rtol=1e-4)


DEGENERATE = {
    "black": jnp.zeros((SIZE, SIZE, 1)),
    "constant": jnp.full((SIZE, SIZE, 1), 0.7),
    "all background": 0.3 * disk(),
    "single bright pixel": jnp.zeros((SIZE, SIZE, 1)).at[5, 9].set(1.0),
    "nan": jnp.full((SIZE, SIZE, 1), jnp.nan),
    "one nan": disk().at[3, 3].set(jnp.nan),
    "infinite": disk().at[3, 3].set(jnp.inf),
}


@pytest.mark.parametrize("name", METHODS)
def test_what_cannot_be_segmented_is_not_trusted(name):
    images = jnp.stack([*DEGENERATE.values(), disk()])
    result = jax.jit(METHODS[name])(images)
    np.testing.assert_array_equal(result.map[:-1], 1.0)
    np.testing.assert_array_equal(result.score[:-1], SIZE * SIZE)
    assert 0 < float(result.score[-1]) < 10
    assert float(result.map[-1].min()) < 0.5  # the bad images do not change the good one


def test_noisy_logits_have_the_entropy_of_their_mean_softmax():
    logits = jnp.array([[[3.0, 0.0], [3.0, 0.0], [1.0, 2.0]]])
    scale = jnp.array([[[0.0, 0.0], [4.0, 1.0], [1.0, 0.5]]])
    draws = logits + scale * jax.random.normal(KEY, (20_000, *logits.shape))
    expected = uncertainty.entropy(jax.nn.softmax(draws).mean(0))
    result = uncertainty.heteroscedastic(jnp.linspace(0, 1, 3)[None, :, None], logits, scale)
    np.testing.assert_allclose(result.map, expected, atol=0.03)
    assert float(result.map[0, 1]) > float(result.map[0, 0]) + 0.2


def test_score_counts_uncertain_pixels_per_pixel_of_the_heart():
    labels = jnp.zeros((4, 4), jnp.int32).at[1:3, 1:3].set(2)
    values = jnp.zeros((4, 4)).at[0].set(0.5)
    assert float(uncertainty.from_map(jnp.eye(4)[..., None], values, labels).score) == 0.5


def test_mc_dropout_is_the_entropy_of_the_mean_whatever_the_batch():
    images = jnp.stack([disk(6.0), disk(10.0)])
    keys = jax.random.split(KEY, 6)
    mean = jnp.mean(jnp.stack([jax.nn.softmax(noisy(k, images)) for k in keys]), 0)
    for batch_size in (1, 2, 4, 10):
        result = uncertainty.mc_dropout(KEY, images, noisy, num_passes=6, batch_size=batch_size)
        np.testing.assert_allclose(result.map, uncertainty.entropy(mean), atol=1e-5)
    np.testing.assert_array_equal(result.labels, mean.argmax(-1))


def test_an_ensemble_of_equals_is_its_member():
    images = disk()[None]
    one = uncertainty.softmax_entropy(images, jax.nn.softmax(network(WEIGHTS, images)))
    three = uncertainty.deep_ensemble(images, network, uncertainty.stack_members([WEIGHTS] * 3), batch_size=2)
    np.testing.assert_allclose(one.map, three.map, atol=1e-5)


def test_augmentation_is_undone_in_the_prediction():
    """A network that looks at single pixels sees the same heart however it is turned."""
    rows, cols = jnp.meshgrid(jnp.arange(64) - 32, jnp.arange(64) - 40, indexing="ij")
    images = jax.nn.sigmoid((12 - jnp.hypot(rows, 1.5 * cols)) / 2)[..., None]
    apply = functools.partial(network, jnp.array([-0.5, 0.5]))
    result = uncertainty.tta(
        KEY, images, apply, num_samples=6, rotation=25, scale=0.2, shift=0.1, gamma=0, contrast=0, flip=True
    )
    plain = uncertainty.softmax_entropy(images, jax.nn.softmax(apply(images)))
    assert float((result.labels != plain.labels).mean()) < 0.005
    np.testing.assert_allclose(result.map, plain.map, atol=0.25)
    assert float(jnp.abs(result.map - plain.map).mean()) < 0.01


def test_augmentation_of_nothing_changes_nothing():
    images = jnp.stack([disk(6.0), disk(10.0)])
    apply = functools.partial(network, WEIGHTS)
    result = uncertainty.tta(KEY, images, apply, num_samples=2, rotation=0, scale=0, shift=0, gamma=0, contrast=0)
    np.testing.assert_allclose(result.map, uncertainty.entropy(jax.nn.softmax(apply(images))), atol=1e-4)


def test_edge_equals_rings_of_scipy_morphology():
    labels = np.zeros((24, 24), np.int32)
    labels[4:18, 5:19], labels[8:14, 9:15] = 2, 1
    expected, square = np.zeros(labels.shape), np.ones((3, 3), bool)
    for morph in (scipy.ndimage.grey_dilation, scipy.ndimage.grey_erosion):
        inner = labels
        for j in range(5):
            outer = morph(inner, footprint=square)
            expected += (1 - j / 5) * (outer != inner)
            inner = outer
    result = uncertainty.edge(jnp.eye(24)[..., None], jnp.asarray(labels))
    np.testing.assert_allclose(result.map, np.minimum(expected, 1), atol=1e-6)


def crisp_in_numpy(labels, code, codes, masks, m, normalize):
    """The authors' definition, with one-hot masks."""
    n, d = codes.shape
    r = np.linalg.norm(codes.mean(0))
    b = (r * (d - r**2) / (1 - r**2)) ** -0.5 * (40 * np.sqrt(np.pi) * n) ** -0.2
    s = codes @ code
    chosen = np.argsort(-s)[:m]
    w = np.exp((s[chosen] - 1) / b)
    eye = np.eye(4)
    u = np.mean(w[:, None, None, None] * (eye[labels][None] != eye[masks[chosen]]), 0)[..., 1:].sum(-1)
    return u / (u.max() if normalize else 2 * w.mean())


@pytest.mark.parametrize("normalize", [True, False])
def test_crisp_equals_the_definition(normalize):
    rng = np.random.default_rng(0)
    codes = rng.normal([1, 0.5, 0, 0, 0, 0, 0, 0], 0.5, (40, 8)).astype(np.float32)
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    masks, labels = rng.integers(0, 4, (40, 9, 7)).astype(np.uint8), rng.integers(0, 4, (2, 9, 7))
    result = uncertainty.crisp(
        jnp.asarray(rng.random((2, 9, 7, 1)), jnp.float32),
        jnp.asarray(labels, jnp.int32),
        jnp.asarray(codes[:2]),
        uncertainty.ShapeBank(jnp.asarray(codes), jnp.asarray(masks)),
        num_samples=12,
        normalize=normalize,
    )
    expected = [crisp_in_numpy(labels[i], codes[i], codes, masks, 12, normalize) for i in range(2)]
    np.testing.assert_allclose(result.map, expected, atol=1e-5)


def test_crisp_trusts_what_all_retrieved_shapes_agree_with():
    labels = labels_of(disk())
    shapes = uncertainty.ShapeBank(BANK.codes, jnp.broadcast_to(labels, (20, SIZE, SIZE)).astype(jnp.uint8))
    result = uncertainty.crisp(disk(), labels, BANK.codes[0], shapes, num_samples=7)
    np.testing.assert_array_equal(result.map, 0)
    wrong = uncertainty.crisp(disk(), labels.at[:, :3].set(1), BANK.codes[0], shapes, num_samples=7)
    np.testing.assert_allclose(wrong.map, (jnp.arange(SIZE) < 3) * jnp.ones((SIZE, 1)), atol=1e-6)


def test_crisp_without_a_code_trusts_nothing_and_refuses_a_small_bank():
    labels = labels_of(disk())
    result = uncertainty.crisp(disk(), labels, jnp.full(BANK.codes.shape[1], jnp.nan), BANK, num_samples=7)
    np.testing.assert_array_equal(result.map, 1)
    with pytest.raises(ValueError, match="20 codes of the bank, got 21"):
        uncertainty.retrieve_shapes(BANK.codes[0], BANK, num_samples=21)


@given(seed=st.integers(0, 1000), spread=st.floats(0, 3))
def test_kernel_bandwidth_is_always_a_width(seed, spread):
    codes = np.random.default_rng(seed).normal([1, 0, 0], spread, (16, 3)).astype(np.float32)
    codes /= np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-6)
    for released in (False, True):
        assert 0 < float(uncertainty.kernel_bandwidth(jnp.asarray(codes), released=released)) <= 1


def test_average_over_augmentations_undoes_each():
    rows, cols = np.mgrid[:48, :48]
    blob = np.exp(-((rows - 20) ** 2 + (cols - 27) ** 2) / 60.0).astype(np.float32)

    def apply(images):
        return jnp.concatenate([1 - images, images], -1)

    augmentations = [each._replace(gamma=1.0) for each in uncertainty.AUGMENTATIONS]
    found = uncertainty.average_over_augmentations(
        jnp.asarray(blob)[None, ..., None], apply, augmentations=augmentations
    )
    np.testing.assert_allclose(found[0, 6:-6, 6:-6, 1], blob[6:-6, 6:-6], atol=0.02)
