"""Counterfactual regret minimisation and its relatives, on the sequence form.

Sources: CFR, Zinkevich et al. 2007; CFR+, Tammelin 2014; discounted and linear CFR, Brown & Sandholm 2019; CFR-BR,
Johanson et al. 2012. Players update in turn, each against the others' newest strategies (CFR-BR: all at once against
best responses). Averages are plans: weighted means of the players' own realisation plans.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ludus.core.errors import UsageError
from ludus.equilibria.exact import best_response_to
from ludus.equilibria.sequence_form import SequenceForm, Side, Strategies, values


class CFRState(eqx.Module):
    """Per player."""

    regret: tuple[Float[Array, "_ _"], ...]
    strategy: tuple[Float[Array, "_ _"], ...]  # what the regrets say to play next
    plan: tuple[Float[Array, "_"], ...]  # of `strategy`
    total: tuple[Float[Array, "_"], ...]  # weighted sum of plans
    iteration: Int[Array, ""]


def match_regrets(side: Side, regret: Float[Array, "infoset slot"]) -> Float[Array, "infoset slot"]:
    """Play in proportion to positive regret; uniformly where there is none."""
    positive = jnp.maximum(regret, 0)
    total = positive.sum(1, keepdims=True)
    return jnp.where(total > 0, positive / jnp.where(total > 0, total, 1), side.uniform())


def advantages(side: Side, gradient: Float[Array, " sequence"], strategy: Float[Array, "infoset slot"]) -> Array:
    """Counterfactual value of each action above that of its information set; 0 where illegal."""
    choices = values(side, gradient, lambda q, begin, end: (q * strategy[begin:end]).sum(1))
    return jnp.where(side.legal, choices.action - choices.infoset[:, None], 0)


@dataclass(frozen=True)
class CFR:
    """One iteration updates every player once."""

    plus: bool = False
    """Regrets are cut at zero after each update."""
    linear: bool = False
    """Iteration t's plan weighs t in the average."""
    discounts: tuple[float, float, float] | None = None
    """α, β, γ of discounted CFR: positive regrets shrink by t^α/(t^α + 1), negative by β, averages by (t/(t+1))^γ."""

    def init(self, game: SequenceForm) -> CFRState:
        """Uniform strategies, no regrets."""
        strategy = game.uniform()
        plan = tuple(game.plans(strategy))
        zeros = lambda xs: tuple(jnp.zeros_like(x) for x in xs)
        return CFRState(zeros(strategy), strategy, plan, zeros(plan), jnp.zeros((), jnp.int32))

    def step(self, game: SequenceForm, state: CFRState) -> CFRState:
        """One iteration."""
        iteration = state.iteration + 1
        regrets, strategies, plans, totals = (list(x) for x in (state.regret, state.strategy, state.plan, state.total))
        for i, side in enumerate(game.sides):
            t = iteration.astype(plans[i].dtype)
            regret = regrets[i] + advantages(side, game.gradient(i, plans), strategies[i])
            if self.plus:
                regret = jnp.maximum(regret, 0)
            total = totals[i] + plans[i] * (t if self.linear else 1)
            if self.discounts is not None:
                alpha, beta, gamma = self.discounts
                shrink = jnp.where(regret > 0, t**alpha / (t**alpha + 1), t**beta / (t**beta + 1))
                regret, total = regret * shrink, total * (t / (t + 1)) ** gamma
            regrets[i], totals[i] = regret, total
            strategies[i] = match_regrets(side, regret)
            plans[i] = side.plan(strategies[i])
        return CFRState(tuple(regrets), tuple(strategies), tuple(plans), tuple(totals), iteration)

    def average(self, game: SequenceForm, state: CFRState) -> Strategies:
        """The average strategy, which is what converges."""
        return tuple(side.strategy(total) for side, total in zip(game.sides, state.total, strict=True))


@dataclass(frozen=True)
class CFRBR(CFR):
    """Each player minimises regret against the others' best responses to all players' current strategies."""

    def step(self, game: SequenceForm, state: CFRState) -> CFRState:
        """One iteration."""
        responses = [
            side.plan(best_response_to(side, game.gradient(i, list(state.plan)))[1])
            for i, side in enumerate(game.sides)
        ]
        regrets, strategies, plans = [], [], []
        for i, side in enumerate(game.sides):
            gradient = side.gradient([p for j, p in enumerate(responses) if j != i])
            regret = state.regret[i] + advantages(side, gradient, state.strategy[i])
            regrets.append(regret)
            strategies.append(match_regrets(side, regret))
            plans.append(side.plan(strategies[i]))
        total = tuple(a + b for a, b in zip(state.total, state.plan, strict=True))
        return CFRState(tuple(regrets), tuple(strategies), tuple(plans), total, state.iteration + 1)


def require_zero_sum(game: SequenceForm, method: str) -> None:
    """Refuse a game that the method's guarantee does not cover."""
    if not (game.zero_sum and game.players == 2):
        kind = f"has {game.players} players" if game.players != 2 else "is general-sum"
        raise UsageError(f"'{method}' solves two-player zero-sum games, and {game.name} {kind}; try cfr or xfp")
