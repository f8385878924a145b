"""Policies without networks: uniformly random play, and several policies at the seats of one group."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key, Shaped

from ludus.core.policy import Decision, Memory, Policy
from ludus.core.spaces import Discrete
from ludus.core.spec import GroupSpec
from ludus.networks.acting import Acts
from ludus.networks.distributions import Categorical, Uniform


class RandomPolicy(Acts):
    """Uniform over legal actions, or over a box; it always explores, so it always needs a key."""

    group: GroupSpec = eqx.field(static=True)

    def distribution(
        self,
        observation: Shaped[Array, "..."],
        legal: Bool[Array, "..."] | None = None,
        memory: Memory = (),
        *,
        explore: bool = True,
        agent: Int[Array, "..."] | None = None,
    ) -> tuple[Categorical | Uniform, Memory]:
        """See `ludus.core.policy.Stochastic.distribution`."""
        lead, space = observation.shape[: observation.ndim - len(self.group.observation.shape)], self.group.action
        if isinstance(space, Discrete):
            return Categorical.of(jnp.zeros((*lead, space.n)), legal), memory
        low, high = (
            jnp.broadcast_to(jnp.asarray(b, jnp.float32), (*lead, space.size)) for b in (space.low, space.high)
        )
        return Uniform(low, high), memory

    def decide(self, distribution: Any, memory: Memory, key: Key[Array, ""] | None, explore: bool) -> Decision:
        """Sample, whether exploring or not."""
        return super().decide(distribution, memory, key, explore=True)


class SeatedPolicy(eqx.Module):
    """Agent i of a group is played by policy `seats[i]`; all agents' policies are evaluated, each row takes its own."""

    policies: tuple[Policy, ...]
    seats: Int[Array, " agent"]

    def initial_memory(self, batch: tuple[int, ...]) -> Memory:
        """One memory for each policy."""
        return tuple(policy.initial_memory(batch) for policy in self.policies)

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
        keys: Any = [None] * len(self.policies) if key is None else jax.random.split(key, len(self.policies))
        memory = memory or tuple(() for _ in self.policies)
        decisions = [
            policy.act(observation, legal, m, key=k, explore=explore, agent=agent)
            for policy, m, k in zip(self.policies, memory, keys, strict=True)
        ]
        seat = self.seats if agent is None else self.seats[agent]

        def mine(*options: Array) -> Array:
            beyond = options[0].ndim - decisions[0].log_prob.ndim  # axes of one action
            index = jnp.broadcast_to(seat.reshape(seat.shape + (1,) * beyond), options[0].shape)
            return jnp.choose(index, list(options), mode="clip")

        action = mine(*(d.action for d in decisions))
        return Decision(action, mine(*(d.log_prob for d in decisions)), tuple(d.memory for d in decisions))
