"""Learners of joint-action values for two players, which solve a stage game in every state.

Minimax-Q (Littman 1994), Nash-Q (Hu & Wellman 2003), friend-or-foe-Q (Littman 2001), correlated-Q (Greenwald & Hall
2003, utilitarian). They differ in what a stage game is worth and how it is played. Every player keeps Q of both, and
all choose the same equilibrium: the selection rules stand in `ludus.equilibria.stage_games`. A state's value and
strategies are solved anew whenever one of its entries has changed, so they are never stale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ludus.algorithms.tabular.core import Tabular
from ludus.algorithms.tabular.transitions import Transition
from ludus.equilibria.shapley import mask_illegal
from ludus.equilibria.stage_games import correlated_equilibrium, general_sum_equilibrium, zero_sum_value

Stage = Float[Array, "row column player"]


class JointTables(eqx.Module):
    """Joint-action values, and what they solve to."""

    q: Float[Array, "state row column player"]
    value: Float[Array, "player state"]
    play: Float[Array, "player state action"]


@dataclass(frozen=True)
class Joint(Tabular):
    """See the module."""

    joint = True

    def tables(self, legal: Bool[Array, "agent state action"]) -> JointTables:
        """All entries alike, uniform play."""
        _, states, actions = legal.shape
        q = jnp.full((states, actions, actions, 2), self.initial)
        return JointTables(q, jnp.full((2, states), self.initial), legal / legal.sum(-1, keepdims=True))

    def shown(self, tables: JointTables, legal: Array) -> tuple[Array, Array]:
        """Values against the other's strategy, and the strategies."""
        row = jnp.einsum("sabp,sb->psa", tables.q, tables.play[1])[0]
        column = jnp.einsum("sabp,sa->psb", tables.q, tables.play[0])[1]
        return jnp.stack([row, column]), tables.play

    def learn(
        self, tables: JointTables, t: Transition, rate: Float[Array, " agent"], legal: Array
    ) -> tuple[JointTables, Array]:
        """Q_i(s, a) += α (r_i + γ V_i(s') − Q_i(s, a)), then solve s."""
        s, (a, b) = t.state[0], t.action
        target = t.reward + self.discount * jnp.where(t.terminal, 0.0, tables.value[:, t.after[0]])
        error = target - tables.q[s, a, b]
        q = tables.q.at[s, a, b].add(rate * error)
        value, play = self.solve(q[s], legal[0, s], legal[1, s])
        live = t.ready.all()
        return JointTables(
            q,
            tables.value.at[:, s].set(jnp.where(live, value, tables.value[:, s])),
            tables.play.at[:, s].set(jnp.where(live, play, tables.play[:, s])),
        ), error

    def solve(self, q: Stage, own: Bool[Array, " row"], other: Bool[Array, " column"]) -> tuple[Array, Array]:
        """What a stage game is worth to both, and both strategies `[player, action]`."""
        raise NotImplementedError


@dataclass(frozen=True)
class MinimaxQ(Joint):
    """Each player maximises his worst case: V = max over mixtures of the least Σ π(a) Q(s, a, o)."""

    def solve(self, q: Stage, own: Bool[Array, " row"], other: Bool[Array, " column"]) -> tuple[Array, Array]:
        """A linear program for each player, on his own values."""
        first, x, _ = zero_sum_value(mask_illegal(q[..., 0], own, other))
        second, y, _ = zero_sum_value(mask_illegal(q[..., 1].T, other, own))
        return jnp.stack([first, second]), jnp.stack([x, y])


@dataclass(frozen=True)
class NashQ(Joint):
    """The stage game's Nash equilibrium with the largest sum of payoffs."""

    def solve(self, q: Stage, own: Bool[Array, " row"], other: Bool[Array, " column"]) -> tuple[Array, Array]:
        """By supports."""
        row, column = _without_illegal(q, own, other)
        x, y, u, v = general_sum_equilibrium(row, column)
        return jnp.stack([u, v]), jnp.stack([x, y])


@dataclass(frozen=True)
class FriendOrFoeQ(Joint):
    """A friend is hoped to help: V = max of Q(s, a, b). A foe is feared as in minimax-Q."""

    other: Literal["friend", "foe"] = "friend"
    """What each takes the other for."""

    def solve(self, q: Stage, own: Bool[Array, " row"], other: Bool[Array, " column"]) -> tuple[Array, Array]:
        """One maximum, or one linear program, for each player."""
        if self.other == "foe":
            return MinimaxQ.solve(self, q, own, other)  # type: ignore[arg-type]
        legal = own[:, None] & other[None]
        lowest = jnp.finfo(q.dtype).min
        values, plays = [], []
        for i, axis in ((0, 1), (1, 0)):
            best = jnp.where(legal, q[..., i], lowest).max(axis)
            values.append(best.max())
            plays.append(jax.nn.one_hot(jnp.argmax(best), best.shape[0], dtype=q.dtype))
        return jnp.stack(values), jnp.stack(plays)


@dataclass(frozen=True)
class CorrelatedQ(Joint):
    """The stage game's correlated equilibrium with the largest sum of payoffs; each plays his marginal of it."""

    def solve(self, q: Stage, own: Bool[Array, " row"], other: Bool[Array, " column"]) -> tuple[Array, Array]:
        """A linear program over joint actions."""
        row, column = _without_illegal(q, own, other)
        payoffs = jnp.stack([row, column], -1)
        joint = correlated_equilibrium(payoffs)
        worth = (joint[..., None] * payoffs).sum((0, 1))
        return worth, jnp.stack([joint.sum(1), joint.sum(0)])


def _without_illegal(q: Stage, own: Array, other: Array) -> tuple[Array, Array]:
    """Both players' payoffs, with illegal actions strictly worse than any legal one for who would play them."""
    legal = (own[:, None] & other[None])[..., None]
    low = jnp.where(legal, q, jnp.inf).min((0, 1)) - 1.0
    high = jnp.where(legal, q, -jnp.inf).max((0, 1))
    row = jnp.where(own[:, None], jnp.where(other[None], q[..., 0], high[0]), low[0])
    column = jnp.where(other[None], jnp.where(own[:, None], q[..., 1], high[1]), low[1])
    return row, column
