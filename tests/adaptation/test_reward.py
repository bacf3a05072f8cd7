"""Pairs, the reward network's lesson, the baselines' steps and the loop, on networks of a few numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cardiojax import adaptation, recipes, uncertainty
from cardiojax.adaptation import Networks, Targets

NUM, SIDE = 6, 8


def policy(params, images):
    """Brighter than a threshold is class 1."""
    return jnp.concatenate([0 * images, params["scale"] * (images - params["threshold"])], -1)


def reward_logits(params, images, labels):
    """Right where the label says what a threshold says."""
    agrees = jnp.where(labels == 1, images[..., 0] - params["threshold"], params["threshold"] - images[..., 0])
    return params["scale"] * agrees


PARAMS = {"scale": jnp.array(20.0), "threshold": jnp.array(0.5)}


@pytest.fixture(scope="module")
def images():
    """A bright square on dark, elsewhere in each."""
    images = np.full((NUM, SIDE, SIDE, 1), 0.1, np.float32)
    for i in range(NUM):
        images[i, i % 4 : i % 4 + 4, i % 3 : i % 3 + 4] = 0.9
    return jnp.asarray(images)


def test_perturbed_maps_are_swapped_shaken_and_seen_through_changed_images(images):
    labels = policy(PARAMS, images).argmax(-1)
    maps = adaptation.corrupt(
        jax.random.key(0), PARAMS, images, labels,
        policy=policy, weight_noise=(0.0, 50.0), contrasts=(1.0, 0.5), image_noise=(0.0,),
    )  # fmt: skip
    assert maps.shape == (6, NUM, SIDE, SIDE)
    swapped, still, shaken, same, dark, scaled = maps
    assert sorted(map(bytes, np.asarray(swapped))) == sorted(map(bytes, np.asarray(labels)))
    assert not (swapped == labels).all((1, 2)).all()
    np.testing.assert_array_equal(still, labels)
    np.testing.assert_array_equal(same, labels)
    np.testing.assert_array_equal(scaled, labels)  # divided by its largest value, the square is still bright
    assert (shaken != labels).any()
    assert not dark.any()  # 0.45 is below the threshold


def test_pairs_have_the_targets_and_weights_of_their_kind(images):
    labels = policy(PARAMS, images).argmax(-1)
    corrupted = jnp.stack([jnp.roll(labels, 1, 0), jnp.zeros_like(labels)])
    corrected = labels.at[1].set(1)
    trusted, valid = jnp.arange(NUM) == 0, jnp.arange(NUM) < 2
    pairs = adaptation.make_pairs(images, labels, corrupted, corrected, trusted=trusted, valid=valid)
    # the first is trusted: its sampled and its swapped map count, the empty one does not; the second was corrected
    np.testing.assert_array_equal(pairs.weights, [[1, 1, 0], [1, 0, 0], *[[0, 0, 0]] * 4])
    batch = adaptation.sample_pairs(jax.random.key(0), pairs, 300)
    counts = {}
    for prediction, target in zip(batch.predictions, batch.targets, strict=True):
        kind = (bytes(np.asarray(prediction)), bytes(np.asarray(target)))
        counts[kind] = counts.get(kind, 0) + 1
    expected = [(labels[0], corrected[0]), (corrupted[0, 0], corrected[0]), (labels[1], corrected[1])]
    assert set(counts) == {(bytes(np.asarray(p)), bytes(np.asarray(t))) for p, t in expected}
    assert min(counts.values()) > 60


def test_the_reward_network_learns_which_pixels_are_right(images):
    labels = policy(PARAMS, images).argmax(-1)
    pairs = adaptation.make_pairs(
        images, labels, jnp.roll(labels, 1, 0)[None], labels, trusted=jnp.ones(NUM, bool), valid=jnp.ones(NUM, bool)
    )
    adam = optax.adam(0.1)
    learner = adaptation.init_optimizer({"scale": jnp.array(0.5), "threshold": jnp.array(0.4)}, adam)
    step = jax.jit(lambda learner, batch: adaptation.reward_step(learner, batch, apply=reward_logits, optimizer=adam))
    for i in range(80):
        learner, loss = step(learner, adaptation.sample_pairs(jax.random.key(i), pairs, 4))
    assert loss < 0.2
    swapped = jnp.roll(labels, 1, 0)
    reward = jax.nn.sigmoid(reward_logits(learner.params, images, swapped))
    np.testing.assert_array_equal(reward > 0.5, swapped == labels)
    estimate = uncertainty.learned_confidence(images, swapped, reward)
    np.testing.assert_allclose(estimate.map, 1 - reward, rtol=1e-5)


def test_shrink_and_perturb_leaves_biases_alone():
    params = {"kernel": jnp.full((50, 50), 2.0), "bias": jnp.ones(3)}
    shaken = adaptation.shrink_and_perturb(jax.random.key(0), params)
    np.testing.assert_array_equal(shaken["bias"], 1.0)
    assert np.isclose(shaken["kernel"].mean(), 1.0, atol=0.01)
    assert np.isclose(shaken["kernel"].std(), 0.01, atol=0.001)


@pytest.mark.parametrize("name", ["tent", "self_training"])
def test_steps_of_the_baselines_lower_their_losses(images, name):
    sgd = optax.sgd(0.05)
    labels = (images[..., 0] > 0.2).astype(jnp.int32)
    batch = Targets(images, labels, jnp.ones(NUM, bool))
    start = {"Norm": {"scale": jnp.array(1.0)}, "threshold": jnp.array(0.8)}

    def apply(params, images):
        return policy({"scale": params["Norm"]["scale"], "threshold": params["threshold"]}, images)

    step = jax.jit(lambda learner: getattr(adaptation, f"{name}_step")(learner, batch, policy=apply, optimizer=sgd))
    learner, values = adaptation.init_optimizer(start, sgd), []
    for _ in range(20):
        learner, value = step(learner)
        values.append(float(value))
    assert values[-1] < values[0]
    assert (learner.params["threshold"] == 0.8) == (name == "tent")  # only the scale of the normalisation may move


def test_alignment_moves_features_together_and_the_discriminator_apart():
    sgd = optax.sgd(0.5)
    labels = jnp.zeros((2, 2, 2), jnp.int32)
    batch = Targets(jnp.ones((2, 2, 2, 1)), labels, jnp.zeros(2, bool))

    def apply(shift, images):
        """Only the target's features can move, towards or away from those of the source, 0."""
        features = images * shift
        return jnp.concatenate([0 * features, 0 * features], -1), features

    def discriminate(weight, features):
        return weight * features[..., 0]

    learner = adaptation.init_optimizer((jnp.array(1.0), jnp.array(0.5)), sgd)
    moved, value = adaptation.alignment_step(
        learner, batch, jnp.zeros((2, 2, 2, 1)), labels,
        policy=apply, discriminate=discriminate, optimizer=sgd, weight=1.0,
    )  # fmt: skip
    # half of the positions have odds of 0, half of 0.5; the task is ln 2 and one minus a Dice of 1 - 1e-5 / 2
    np.testing.assert_allclose(value, np.log(2) + (np.log(2) + np.log1p(np.exp(-0.5))) / 2 + (1 - 1e-5 / 2), atol=1e-3)
    pull = (1 / (1 + np.exp(-0.5)) - 1) / 2  # of the odds' loss, by the odds
    np.testing.assert_allclose(moved.params[0], 1 + 0.5 * pull * 0.5, rtol=1e-5)  # reversed: the feature shrinks
    np.testing.assert_allclose(moved.params[1], 0.5 - 0.5 * pull * 1.0, rtol=1e-5)


@pytest.fixture(scope="module")
def run_loop(images):
    """The network misses the squares' dim lower rows."""
    dim = images.at[:, 3:].multiply(0.5)
    full = (dim[..., 0] > 0.2).astype(jnp.int32)
    start = {"scale": jnp.array(16.0), "threshold": jnp.array(0.55)}

    def run(correct, known=None):
        adapted = recipes.adapt(
            jax.random.key(0), start, dim,
            networks=Networks(policy, lambda p, x: jnp.broadcast_to(p, x.shape[:-1])),
            reward_function=reward_logits,
            critic=jnp.array(0.5),
            reward={"scale": jnp.array(1.0), "threshold": jnp.array(0.5)},
            correct=lambda masks: correct(masks, np.asarray(full)),
            known=known,
            optimizer=optax.adam(0.03),
            reward_optimizer=optax.adam(0.1),
            config=recipes.AdaptConfig(
                num_iterations=2, reward_steps=100, reward_batch=4, ppo_steps=12, ppo_batch=4, divergence=0, entropy=0
            ),
        )  # fmt: skip
        before, after = (float((policy(p, dim).argmax(-1) == full).mean()) for p in (start, adapted.params))
        return adapted, before, after

    return run, Targets(dim, full, jnp.ones(NUM, bool))


def test_the_loop_moves_a_threshold_to_where_hearts_are_valid(run_loop):
    """A guarantee that fills the dim rows teaches the reward, and it the policy."""
    adapted, before, after = run_loop[0](
        lambda masks, full: adaptation.CorrectedBatch(full, (masks == full).all((1, 2)), np.ones(len(masks), bool))
    )
    assert after > before + 0.05
    assert adapted.pairs.predictions.shape == (2 * NUM, 10, SIDE, SIDE)
    assert [figures["trusted"] for figures in adapted.history][::2] == [0, 1]


def test_true_masks_of_a_source_teach_the_reward_where_no_map_can_be_corrected(run_loop):
    nothing = np.zeros(NUM, bool)
    adapted, before, after = run_loop[0](
        lambda masks, full: adaptation.CorrectedBatch(masks, nothing, nothing), run_loop[1]
    )
    assert after > before + 0.05
    assert not adapted.pairs.weights.any()


def test_the_loop_returns_the_policy_with_most_valid_maps(run_loop):
    first = []

    def correct(masks, full):
        first.append(masks)
        return adaptation.CorrectedBatch(full, (masks == first[0]).all((1, 2)), np.ones(len(masks), bool))

    adapted, before, after = run_loop[0](correct)
    assert before == after
    assert [figures["trusted"] for figures in adapted.history][::2] == [1, 0]


def test_batches_hold_no_example_twice():
    drawn = list(recipes.batches(jax.random.key(0), {"i": jnp.arange(9)}, num_steps=5, batch_size=4))
    assert len(drawn) == 5
    assert all(len(set(b["i"].tolist())) == 4 for b in drawn)
    again = list(recipes.batches(jax.random.key(0), {"i": jnp.arange(9)}, num_steps=5, batch_size=4))
    assert all((a["i"] == b["i"]).all() for a, b in zip(drawn, again, strict=True))
