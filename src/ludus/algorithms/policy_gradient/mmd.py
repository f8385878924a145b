"""Magnetic mirror descent by policy gradients (Sokota et al. 2023, section 5): regularised self-play whose last
policy converges where plain policy gradients cycle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ludus.algorithms.policy_gradient.actor_critic import ActorCritic
from ludus.algorithms.policy_gradient.batch import Batch
from ludus.core.algorithm import Learner, Metrics
from ludus.core.rollout import Rollout


@dataclass(frozen=True)
class MMD(ActorCritic):
    """max E[A] + α H(π) − KL(π, π_old) / η at every update: the magnet is uniform play, so that its pull is entropy.

    α is the temperature of the quantal response equilibrium that a fixed one leads to; falling, it leads on towards a
    Nash equilibrium. Advantages are not standardised: α and η are in units of the game's returns.
    """

    anneal: bool = False
    """Whether the step size falls linearly to zero over the planned steps."""
    discount: float = 1.0
    """Discount factor per acting step."""
    temperature: float = 0.3
    """α at the beginning; `entropy_weight` is ignored."""
    final_temperature: float = 0.01
    """α at the end; it falls geometrically."""
    step_size: float = 1.0
    """η at the beginning: how far an update may move the policy."""
    final_step_size: float = 0.1
    """η at the end; it falls geometrically."""
    epochs: int = 4
    """Passes over each rollout."""
    minibatches: int = 4
    """Gradient steps of each pass."""

    def update(self, learner: Learner, rollout: Rollout, *, key: Key[Array, ""]) -> tuple[Learner, Metrics]:
        """One update at the present temperature and step size."""
        scheduled: dict[str, Any] = {
            "entropy_weight": _between(self.temperature, self.final_temperature, rollout.progress),
            "step_size": _between(self.step_size, self.final_step_size, rollout.progress),
        }
        now: Any = replace(self, **scheduled)
        return super(MMD, now).update(learner, rollout, key=key)

    def policy_loss(
        self, log_prob: Float[Array, "time env slot"], batch: Batch
    ) -> tuple[Float[Array, "time env slot"], dict[str, Array]]:
        """−ρ A + (ρ log ρ − ρ + 1) / η: the second part is KL(π, π_old) in expectation, and never negative."""
        log_ratio = jnp.where(batch.weight, log_prob - batch.log_prob, 0.0)
        ratio = jnp.exp(jnp.clip(log_ratio, -20.0, 5.0))
        divergence = ratio * log_ratio - ratio + 1
        return -ratio * batch.advantage + divergence / self.step_size, {"approximate_kl": divergence}


def _between(first: float, last: float, progress: Array) -> Array:
    """From one to the other, geometrically."""
    return first * jnp.power(max(last, 1e-9) / max(first, 1e-9), progress)
