"""SAC (Haarnoja et al. 2018): a stochastic actor, twin critics, entropy in the return, a learned temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Key

from ludus.algorithms.joint import action_size, as_vector
from ludus.algorithms.off_policy.core import OffPolicyActorCritic
from ludus.core.spaces import Space
from ludus.core.spec import GroupSpec


@dataclass(frozen=True)
class SAC(OffPolicyActorCritic):
    """Soft actor–critic."""

    twins = 2
    stochastic = True
    continuous_only = True
    temperature: float = 0.2
    """The weight of entropy in returns, or where it starts if it is learned."""
    learns_temperature: bool = True
    """Whether the temperature keeps the entropy at its target."""
    entropy_target: float = -1.0
    """That target for each entry of the action, in nats, of actions in their own units."""

    def choose(self, space: Space, found: Any, key: Key[Array, ""], *, target: bool) -> tuple[Array, Array]:
        """A reparametrised sample."""
        action, score = found.draw(key)
        return as_vector(space, action), score

    def target_entropy(self, group: GroupSpec) -> float:
        """Of the whole action."""
        return self.entropy_target * action_size(group.action)
