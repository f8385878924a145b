"""Multi-agent PPO (Yu et al. 2022): PPO with centralised critics, normalised values and a Huber value loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ludus.algorithms.policy_gradient.ppo import PPO


@dataclass(frozen=True)
class MAPPO(PPO):
    """PPO whose critics see the global state, or all observations where the game has no state."""

    critic: Literal["local", "central"] = "central"
    """Whether critics see the global state (else all observations), or their agent's observation."""
    normalise_values: bool = True
    """Critics predict targets divided by their running deviation."""
    huber: float = 10.0
    """Value errors beyond this many (normalised) units count linearly."""

    def value_loss(
        self,
        value: Float[Array, "time env slot"],
        old_value: Float[Array, "time env slot"],
        target: Float[Array, "time env slot"],
    ) -> Float[Array, "time env slot"]:
        """Huber loss of the clipped or unclipped value, whichever is worse."""
        loss = optax.losses.huber_loss(value - target, delta=self.huber)
        if self.clip_values:
            near = old_value + jnp.clip(value - old_value, -self.clip, self.clip)
            loss = jnp.maximum(loss, optax.losses.huber_loss(near - target, delta=self.huber))
        return loss
