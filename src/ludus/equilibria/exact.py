"""Exact evaluation: expected returns, best responses, NashConv. All of it jits, and takes many strategies at once.

Strategies are behavioural: one table `[infoset, slot, *batch]` for each player, in the order of his side of the
sequence form; results then end in the same batch axes.
NashConv is the sum over players of what each could gain by deviating alone; exploitability = NashConv / players.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ludus.equilibria.sequence_form import SequenceForm, Side, Strategies, behind, values


def expected_returns(game: SequenceForm, strategies: Strategies) -> Float[Array, "player *batch"]:
    """What each player earns on average."""
    return plans_returns(game, game.plans(strategies))


def plans_returns(game: SequenceForm, plans: list[Array]) -> Float[Array, "player *batch"]:
    """What each player earns on average, from plans."""
    first = game.sides[0]
    if game.players == 2 and game.zero_sum:  # one side's gradient says it all
        own = (plans[0] * first.gradient([plans[1]])).sum(0)
        return jnp.stack([own, -own])
    weight = jnp.ones((), game.payoff.dtype)
    for i, plan in enumerate(plans):
        weight = weight * plan[game.sequence[:, i]]
    return jnp.tensordot(game.payoff, weight, axes=(0, 0))


def best_response_to(side: Side, gradient: Float[Array, "sequence *batch"]) -> tuple[Array, Array]:
    """The value and the pure strategy `[infoset, slot, *batch]` of a best response; of equal actions the first.

    Actions count as equal within rounding, so that ties break alike whatever the order of summation.
    """
    lowest = jnp.finfo(gradient.dtype).min
    rounding = 64 * jnp.finfo(gradient.dtype).eps
    masked = lambda q, begin, end: jnp.where(behind(side.legal[begin:end], q), q, lowest)
    choices = values(side, gradient, lambda q, begin, end: masked(q, begin, end).max(1))
    slack = rounding * jnp.maximum(jnp.abs(gradient).max(0), 1e-30)
    good = behind(side.legal, choices.action) & (choices.action >= choices.infoset[:, None] - slack)
    return choices.game, jax.nn.one_hot(jnp.argmax(good, axis=1), side.shape[1], dtype=gradient.dtype, axis=1)


def best_response(game: SequenceForm, strategies: Strategies, player: int) -> tuple[Array, Array]:
    """The value and strategy of one player's best response to the others' strategies."""
    return best_response_to(game.sides[player], game.gradient(player, game.plans(strategies)))


def nash_conv(game: SequenceForm, strategies: Strategies) -> Float[Array, "*batch"]:
    """The sum over players of what each could gain by deviating alone."""
    return plans_nash_conv(game, game.plans(strategies))


def plans_nash_conv(game: SequenceForm, plans: list[Array]) -> Float[Array, "*batch"]:
    """NashConv of plans."""
    best = [best_response_to(side, game.gradient(i, plans))[0] for i, side in enumerate(game.sides)]
    total = jnp.stack(best).sum(0)
    return total if game.zero_sum else total - plans_returns(game, plans).sum(0)


def exploitability(game: SequenceForm, strategies: Strategies) -> Float[Array, "*batch"]:
    """NashConv / players."""
    return nash_conv(game, strategies) / game.players
