"""TD3 (Fujimoto et al. 2018): twin critics, delayed actors, smoothed targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ludus.algorithms.off_policy.core import OffPolicyActorCritic
from ludus.core.spaces import Space


@dataclass(frozen=True)
class TD3(OffPolicyActorCritic):
    """DDPG that trusts the smaller of two critics, at actions close to the target actor's."""

    twins = 2
    continuous_only = True
    policy_every: int = 2
    """Gradient steps of the critics for each of the actors, and of all targets."""
    target_noise: float = 0.2
    """Deviation of the noise on target actions, in half-widths of their box."""
    target_clip: float = 0.5
    """That noise is cut here, in half-widths."""

    def choose(self, space: Space, found: Any, key: Key[Array, ""], *, target: bool) -> tuple[Array, Array]:
        """The target actor's action with clipped noise (eq. 14)."""
        action, score = super().choose(space, found, key, target=target)
        if target:
            noise = self.target_noise * jax.random.normal(key, action.shape)
            action = jnp.clip(action + jnp.clip(noise, -self.target_clip, self.target_clip), -1, 1)
        return action, score
