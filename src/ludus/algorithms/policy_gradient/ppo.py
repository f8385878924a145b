"""Proximal policy optimisation (Schulman et al. 2017); with several agents, independent PPO (de Witt et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ludus.algorithms.policy_gradient.actor_critic import ActorCritic
from ludus.algorithms.policy_gradient.batch import Batch
from ludus.learning.statistics import standardise


@dataclass(frozen=True)
class PPO(ActorCritic):
    """Clipped surrogate objective, several epochs over each rollout."""

    clip: float = 0.2
    """ε: how far the probability ratio may move a step's objective from 1."""
    clip_values: bool = True
    """Also clip the value's change by ε, and take the worse of both losses. Where returns are much larger than 1,
    switch it off or normalise values: they move by ε an update at most."""
    epochs: int = 4
    """Passes over each rollout."""
    minibatches: int = 4
    """Gradient steps of each pass."""

    def scale_advantages(self, advantage: Array, weight: Array) -> Array:
        """Mean 0 and deviation 1 over the rollout's acting steps."""
        return standardise(advantage, weight)

    def policy_loss(
        self, log_prob: Float[Array, "time env slot"], batch: Batch
    ) -> tuple[Float[Array, "time env slot"], dict[str, Array]]:
        """−min(ρ A, clip(ρ, 1 − ε, 1 + ε) A), eq. 7."""
        log_ratio = log_prob - batch.log_prob
        ratio = jnp.exp(jnp.where(batch.weight, log_ratio, 0.0))
        loss = -surrogate(ratio, batch.advantage, self.clip)
        clipped: Bool[Array, "time env slot"] = jnp.abs(ratio - 1) > self.clip
        return loss, {"approximate_kl": ratio - 1 - log_ratio, "clip_fraction": clipped.astype(ratio.dtype)}

    def value_loss(
        self,
        value: Float[Array, "time env slot"],
        old_value: Float[Array, "time env slot"],
        target: Float[Array, "time env slot"],
    ) -> Float[Array, "time env slot"]:
        """Half the squared error, of the clipped or unclipped value, whichever is worse."""
        loss = jnp.square(value - target)
        if self.clip_values:
            near = old_value + jnp.clip(value - old_value, -self.clip, self.clip)
            loss = jnp.maximum(loss, jnp.square(near - target))
        return 0.5 * loss


def surrogate(ratio: Float[Array, "..."], advantage: Float[Array, "..."], clip: float) -> Float[Array, "..."]:
    """The clipped objective of one step, to be maximised."""
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
