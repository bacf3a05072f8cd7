"""nnU-Net's optimizer."""

import dataclasses

import jax.numpy as jnp
import optax

from cardiojax.validation import check_range


@dataclasses.dataclass(frozen=True, kw_only=True)
class NNUNetOptimizerConfig:
    """Stochastic gradient descent with Nesterov momentum and a polynomial schedule.

    Attributes:
        learning_rate: At the start.
        power: Exponent of the decay ``(1 - step / num_steps) ** power``.
        momentum: Of the gradient.
        weight_decay: Added to the gradient, times the parameters.
        clip_norm: Largest global norm of the gradient.
        steps_per_epoch: Steps over which the rate stays the same.
    """

    learning_rate: float = 1e-2
    power: float = 0.9
    momentum: float = 0.99
    weight_decay: float = 3e-5
    clip_norm: float = 12.0
    steps_per_epoch: int = 250

    def __post_init__(self):
        check_range(self, "learning_rate", "clip_norm", low=0, open_low=True)
        check_range(self, "power", "weight_decay", low=0)
        check_range(self, "momentum", low=0, high=1)
        check_range(self, "steps_per_epoch", low=1)


def make_nnunet_optimizer(config: NNUNetOptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Builds nnU-Net's optimizer for a run of ``num_steps``.

    Args:
        config: Rates.
        num_steps: Length of the run; 250,000 in the original.

    Returns:
        An Optax transformation, equal to PyTorch's ``SGD(nesterov=True)`` after clipping.

    References:
        Isensee et al., "nnU-Net", Nature Methods 2021.

    Example:
        >>> optimizer = make_nnunet_optimizer(NNUNetOptimizerConfig(), 250_000)
    """
    decay = optax.polynomial_schedule(config.learning_rate, 0.0, config.power, num_steps)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(
            lambda step: decay(jnp.asarray(step) // config.steps_per_epoch * config.steps_per_epoch),
            momentum=config.momentum,
            nesterov=True,
        ),
    )
