"""Extensive-form fictitious play (XFP: Heinrich, Lanctot & Silver 2015): best responses averaged as plans."""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ludus.equilibria.exact import best_response_to
from ludus.equilibria.sequence_form import SequenceForm, Strategies


class XFPState(eqx.Module):
    """The average plans so far, which count as `iteration` best responses."""

    plan: tuple[Float[Array, "_"], ...]
    iteration: Int[Array, ""]


@dataclass(frozen=True)
class XFP:
    """All players respond to the averages of before; uniform play counts as the first response."""

    def init(self, game: SequenceForm) -> XFPState:
        """Uniform play."""
        return XFPState(tuple(game.plans(game.uniform())), jnp.ones((), jnp.int32))

    def step(self, game: SequenceForm, state: XFPState) -> XFPState:
        """One best response each, mixed into the averages with weight 1/(t + 1)."""
        plans = list(state.plan)
        weight = 1 / (state.iteration + 1).astype(plans[0].dtype)
        mixed = []
        for i, side in enumerate(game.sides):
            _, response = best_response_to(side, game.gradient(i, plans))
            mixed.append(plans[i] + weight * (side.plan(response) - plans[i]))
        return XFPState(tuple(mixed), state.iteration + 1)

    def average(self, game: SequenceForm, state: XFPState) -> Strategies:
        """The average strategy."""
        return tuple(side.strategy(plan) for side, plan in zip(game.sides, state.plan, strict=True))
