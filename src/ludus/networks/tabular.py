"""A policy that is a table of probabilities."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from ludus.core.policy import Decision, Memory
from ludus.core.spaces import Discrete
from ludus.core.spec import GroupSpec
from ludus.networks.acting import Acts
from ludus.networks.distributions import Categorical


class TabularPolicy(Acts):
    """Observations are one-hots of what an agent knows; each agent has a row of probabilities for it.

    What a game asks for may be a mixture, so with a key it is sampled even without exploring.
    """

    play: Float[Array, "agent state action"]
    behaviour: Float[Array, "agent state action"]  # with exploration

    @staticmethod
    def uniform(group: GroupSpec) -> TabularPolicy:
        """All actions alike, everywhere."""
        assert isinstance(group.action, Discrete)
        table = jnp.full((group.size, group.observation.shape[0], group.action.n), 1.0 / group.action.n)
        return TabularPolicy(table, table)

    def distribution(
        self,
        observation: Shaped[Array, "..."],
        legal: Bool[Array, "..."] | None = None,
        memory: Memory = (),
        *,
        explore: bool = False,
        agent: Int[Array, "..."] | None = None,
    ) -> tuple[Categorical, Memory]:
        """See `ludus.core.policy.Stochastic.distribution`."""
        state = jnp.argmax(jnp.asarray(observation), -1)
        who = jnp.broadcast_to(jnp.arange(state.shape[-1]), state.shape) if agent is None else agent
        row = (self.behaviour if explore else self.play)[who, state]
        if legal is not None:
            row = jnp.where(legal, row, 0.0)
            total = row.sum(-1, keepdims=True)
            row = jnp.where(total > 0, row / jnp.where(total > 0, total, 1), legal / legal.sum(-1, keepdims=True))
        tiny = jnp.finfo(row.dtype).tiny
        return Categorical(jnp.where(row > 0, jnp.log(jnp.maximum(row, tiny)), jnp.finfo(row.dtype).min)), memory

    def decide(self, distribution: Categorical, memory: Memory, key: Key[Array, ""] | None, explore: bool) -> Decision:
        """Sample if there is a key."""
        action = distribution.mode() if key is None else distribution.sample(key)
        return Decision(action, distribution.log_prob(action), memory)
