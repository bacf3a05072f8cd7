"""A step of PPO on segmentation networks: ours beside the same step written plainly in PyTorch.

Policy, value and reward are U-Nets with 8 to 64 channels; a step samples label maps of a batch of 128 x 128 images,
asks the reward network and updates policy and value five times. Our five updates are unrolled, for the CPU.

Run: ``python -m benchmarks.methods.adaptation``
"""

import functools

import numpy as np

from benchmarks.harness import Section, compare, figures, main, ratio_text, ratio_to_best, table
from benchmarks.networks.torch_unet import torch_unet

SIZE, BATCH, NUM_UPDATES = 128, 4, 5
FEATURES = (8, 16, 32, 64)
#: Weights of entropy and divergence, clip, learning rate, largest norm of the gradient.
ENTROPY, DIVERGENCE, CLIP, RATE, NORM = 0.05, 0.35, 0.2, 5e-4, 0.5


def _images():
    return np.random.default_rng(0).random((BATCH, SIZE, SIZE, 1), np.float32)


def ours():
    """`cardiojax.adaptation.ppo_step`."""
    import jax
    import jax.numpy as jnp
    import optax

    from cardiojax import adaptation, models

    images = jnp.asarray(_images())
    actor, critic = (models.UNet(models.UNetConfig(features=FEATURES, num_classes=k)) for k in (4, 1))
    init = [net.init(jax.random.key(0), jnp.zeros((1, 8, 8, c))) for net, c in ((actor, 1), (critic, 1), (critic, 2))]

    def reward(images, labels):
        seen = jnp.concatenate([images, labels[..., None].astype(jnp.float32)], -1)
        return jax.nn.sigmoid(critic.apply(init[2], seen).logits[..., 0])

    optimizer = optax.chain(optax.clip_by_global_norm(NORM), optax.adam(RATE))
    batch = adaptation.Targets(images, jnp.zeros(images.shape[:-1], jnp.int32), jnp.zeros(BATCH, bool))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state):
        return adaptation.ppo_step(
            jax.random.key(0),
            state,
            batch,
            networks=adaptation.Networks(
                lambda p, x: actor.apply(p, x).logits, lambda p, x: jax.nn.sigmoid(critic.apply(p, x).logits[..., 0])
            ),
            reward=reward,
            optimizer=optimizer,
            entropy_weight=ENTROPY,
            divergence_weight=DIVERGENCE,
            config=adaptation.PPOConfig(clip=CLIP, num_updates=NUM_UPDATES, unroll=NUM_UPDATES),
        )[0]

    state = [adaptation.init_ppo(init[0], init[1], jax.tree.map(jnp.copy, init[0]), optimizer=optimizer)]

    def call():
        state[0] = jax.block_until_ready(step(state[0]))

    return call


def pytorch():
    """The step as its authors write it, in eager mode."""
    import torch
    from torch import nn

    torch.set_num_threads(2)

    x = torch.from_numpy(_images()).movedim(-1, 1).contiguous()
    actor, reference, critic, reward_net = (torch_unet(*c, FEATURES) for c in ((1, 4), (1, 4), (1, 1), (2, 1)))
    reference.load_state_dict(actor.state_dict())
    optimizers = [torch.optim.Adam(net.parameters(), RATE) for net in (actor, critic)]

    def call():
        with torch.no_grad():
            policy = torch.distributions.Categorical(logits=actor(x).movedim(1, -1))
            action = policy.sample()
            old = policy.log_prob(action)
            known = torch.distributions.Categorical(logits=reference(x).movedim(1, -1)).log_prob(action)
            reward = torch.sigmoid(reward_net(torch.cat([x, action[:, None].float()], 1)))[:, 0]
        for _ in range(NUM_UPDATES):
            policy = torch.distributions.Categorical(logits=actor(x).movedim(1, -1))
            now = policy.log_prob(action)
            value = torch.sigmoid(critic(x))[:, 0]
            advantage = (reward - DIVERGENCE * (now - known) - value).detach()
            ratio = (now - old).exp()
            surrogate = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
            losses = (-surrogate.mean() - ENTROPY * policy.entropy().mean(), nn.functional.mse_loss(value, reward))
            for net, optimizer, loss in zip((actor, critic), optimizers, losses, strict=True):
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), NORM)
                optimizer.step()

    return call


def run(rounds: int = 7) -> Section:
    """Times the step."""
    timings = compare({"cardiojax": ours, "PyTorch": pytorch}, rounds=rounds)
    ratio = ratio_to_best(timings)
    rates = ", ".join(f"{name} {1 / t.median:.2f}" for name, t in timings.items() if not t.note)
    rows = table(list(timings.values()), unit_name="step")
    text = f"{rows}\n\nSteps a second: {rates}. {ratio_text(ratio)}"
    title = f"PPO step, U-Nets of {FEATURES[0]} to {FEATURES[-1]} channels, {SIZE} x {SIZE}, batch {BATCH}"
    return Section(title=title, text=text, data={"ratio": ratio, "timings": figures(timings)})


PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
