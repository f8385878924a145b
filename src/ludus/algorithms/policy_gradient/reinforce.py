"""REINFORCE (Williams 1992): Monte Carlo returns-to-go, with or without a learned baseline."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from ludus.algorithms.policy_gradient.actor_critic import ActorCritic
from ludus.core.spec import GameSpec
from ludus.learning.statistics import standardise


@dataclass(frozen=True)
class REINFORCE(ActorCritic):
    """∇ log π (G − b), one gradient step a rollout.

    With a baseline, its value stands for what follows the rollout's edge or a time limit. Without one nothing can:
    the steps of episodes that did not terminate within the rollout carry no weight, so rollouts must be longer than
    episodes.
    """

    learning_rate: float = 1e-3
    """Step size of Adam."""
    trace: float = 1.0
    """λ: 1 is the Monte Carlo return."""
    rollout_length: int = 512
    """Steps of every environment that one update consumes."""
    baseline: bool = True
    """Subtract a learned value of the observation from returns."""
    standardise: bool = True
    """Shift and scale advantages to mean 0 and deviation 1 over the rollout."""

    def check(self, spec: GameSpec, num_envs: int) -> str | None:
        """See `ludus.core.algorithm.Algorithm.check`."""
        if not self.baseline and spec.truncates:
            return (
                f"REINFORCE without a baseline has no value for what a time limit cuts off, and {spec.name} has one; "
                f"use baseline=true"
            )
        return super().check(spec, num_envs)

    def knows_next(self, acting: Array) -> Array:
        """The baseline stands for the future, if there is one."""
        return acting if self.baseline else jnp.zeros_like(acting)

    def scale_advantages(self, advantage: Array, weight: Array) -> Array:
        """Standardised over the rollout, unless switched off."""
        return standardise(advantage, weight) if self.standardise else advantage

    def value_loss(
        self,
        value: Float[Array, "time env slot"],
        old_value: Float[Array, "time env slot"],
        target: Float[Array, "time env slot"],
    ) -> Float[Array, "time env slot"]:
        """Half the squared error of the baseline, if there is one."""
        return super().value_loss(value, old_value, target) if self.baseline else jnp.zeros_like(value)
