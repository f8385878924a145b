"""What policies that are known by their distribution share: `act` samples it, or takes its mode."""

from __future__ import annotations

from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Int, Key, Shaped

from ludus.core.policy import Decision, Memory


class Acts(eqx.Module):
    """Subclasses give `distribution`, and `initial_memory` where they remember."""

    def initial_memory(self, batch: tuple[int, ...]) -> Memory:
        """Nothing."""
        return ()

    def distribution(
        self,
        observation: Shaped[Array, "..."],
        legal: Bool[Array, "..."] | None = None,
        memory: Memory = (),
        *,
        explore: bool = True,
        agent: Int[Array, "..."] | None = None,
    ) -> tuple[Any, Memory]:
        """See `ludus.core.policy.Stochastic.distribution`."""
        raise NotImplementedError

    def act(
        self,
        observation: Shaped[Array, "..."],
        legal: Bool[Array, "..."] | None = None,
        memory: Memory = (),
        *,
        key: Key[Array, ""] | None = None,
        explore: bool = False,
        agent: Int[Array, "..."] | None = None,
    ) -> Decision:
        """See `ludus.core.policy.Policy.act`. A recurrent policy without given memory starts afresh."""
        distribution, memory = self.distribution(observation, legal, memory, explore=explore, agent=agent)
        return self.decide(distribution, memory, key, explore)

    def decide(self, distribution: Any, memory: Memory, key: Key[Array, ""] | None, explore: bool) -> Decision:
        """Sample, or take the mode."""
        action = distribution.sample(required(key)) if explore else distribution.mode()
        return Decision(action, distribution.log_prob(action), memory)


def required(key: Key[Array, ""] | None) -> Key[Array, ""]:
    """The key, which exploring needs."""
    if key is None:
        raise ValueError("exploring needs a key: act(..., key=jax.random.key(0), explore=True)")
    return key
