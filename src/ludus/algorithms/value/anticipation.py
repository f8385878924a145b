"""Anticipatory dynamics (Heinrich & Silver 2016, §3.2): whole episodes of a best response or of an average policy."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key, Shaped

from ludus.core.policy import Decision, Memory, Policy
from ludus.networks.acting import required
from ludus.networks.policy import NetworkPolicy

UNDECIDED, BEST, AVERAGE = 0, 1, 2


class Anticipating(eqx.Module):
    """In every episode an agent plays its best response with probability η, else its average policy."""

    best: Policy
    average: NetworkPolicy
    share: float = eqx.field(static=True)

    def initial_memory(self, batch: tuple[int, ...]) -> Memory:
        """Which of both, not yet decided."""
        return jnp.zeros(batch, jnp.int8)

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
        """See `ludus.core.policy.Policy.act`."""
        key_which, key_best, key_average = jax.random.split(required(key), 3)
        drawn = jnp.where(jax.random.uniform(key_which, memory.shape) < self.share, BEST, AVERAGE)
        which = jnp.where(memory == UNDECIDED, drawn, memory).astype(jnp.int8)
        best = self.best.act(observation, legal, key=key_best, explore=explore, agent=agent)
        average = self.average.act(observation, legal, key=key_average, explore=explore, agent=agent)
        pick = lambda a, b: jnp.where(which == BEST, a, b)
        chosen, log_prob = pick(best.action, average.action), pick(best.log_prob, average.log_prob)
        return Decision(chosen, log_prob, which, {"best": which == BEST})
