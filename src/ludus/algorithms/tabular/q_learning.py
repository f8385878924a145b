"""Q-learning (Watkins 1989); with several agents, independent Q-learning (Tan 1993)."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ludus.algorithms.tabular.core import Tabular, greedy
from ludus.algorithms.tabular.transitions import Transition


@dataclass(frozen=True)
class QLearning(Tabular):
    """Each agent has its own table and takes the others for part of the world; equal values are drawn between."""

    def tables(self, legal: Bool[Array, "agent state action"]) -> Float[Array, "agent state action"]:
        """Q."""
        return jnp.full(legal.shape, self.initial)

    def shown(self, tables: Array, legal: Array) -> tuple[Array, Array]:
        """Q, and its greedy policy."""
        return tables, greedy(tables, legal)

    def learn(self, tables: Array, t: Transition, rate: Float[Array, " agent"], legal: Array) -> tuple[Array, Array]:
        """Q(s, a) += α (r + γ max Q(s', ·) − Q(s, a)), over legal actions, and without the future at the end."""
        agent = jnp.arange(tables.shape[0])
        future = jnp.where(t.after_legal, tables[agent, t.after], jnp.finfo(tables.dtype).min).max(-1)
        target = t.reward + self.discount * jnp.where(t.terminal, 0.0, future)
        error = target - tables[agent, t.state, t.action]
        return tables.at[agent, t.state, t.action].add(rate * error), error
