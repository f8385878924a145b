"""Mixers: the value of a joint action from the values of each agent's part of it.

A mixer sees `chosen`, each agent's value of the action taken, `best`, each agent's largest value, and the state. Its
result grows with every agent's value (individual–global–max), so that everybody's greedy action is the team's.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ludus.networks.layers import Linear


@runtime_checkable
class Mixer(Protocol):
    """What a value-decomposition method adds to independent learners."""

    def __call__(
        self,
        chosen: Float[Array, "*batch agent"],
        best: Float[Array, "*batch agent"],
        state: Float[Array, "*batch state"],
    ) -> Float[Array, "*batch"]:
        """The joint value."""
        ...


class Sum(eqx.Module):
    """VDN (Sunehag et al. 2018): the joint value is the sum."""

    def __call__(self, chosen: Array, best: Array, state: Array) -> Array:
        return chosen.sum(-1)


SMALL = 0.001  # of what gives weights at first: every agent counts little, so that early errors do not feed each other


class Hyper(eqx.Module):
    """The state to weights of a mixer: linear, or with one hidden layer."""

    hidden: Linear | None
    out: Linear

    @staticmethod
    def init(state: int, outputs: int, hidden: int, *, key: Key[Array, ""]) -> Hyper:
        """`hidden` units, or none for 0."""
        key_hidden, key_out = jax.random.split(key)
        inside = Linear.init(state, hidden, key=key_hidden) if hidden else None
        scale = SMALL if hidden else 1.0
        return Hyper(inside, Linear.init(hidden or state, outputs, key=key_out, scale=scale))

    def __call__(self, state: Float[Array, "*batch state"]) -> Float[Array, "*batch out"]:
        return self.out(state if self.hidden is None else jax.nn.relu(self.hidden(state)))


class Monotone(eqx.Module):
    """QMIX (Rashid et al. 2018): a two-layer network whose weights are the sizes of functions of the state.

    Those functions have one hidden layer of `hyper` units, or none. Biases are free; the last one is a two-layer value
    of the state.
    """

    first: Hyper
    first_bias: Linear
    second: Hyper
    value_hidden: Linear
    value: Linear
    width: int = eqx.field(static=True)

    @staticmethod
    def init(agents: int, state: int, *, width: int = 32, hyper: int = 0, key: Key[Array, ""]) -> Monotone:
        """For so many agents and state features."""
        keys = jax.random.split(key, 5)
        scale = SMALL if hyper else 1.0
        make = lambda k, outputs, inputs=state: Linear.init(inputs, outputs, key=k, scale=scale)
        return Monotone(
            Hyper.init(state, agents * width, hyper, key=keys[0]),
            make(keys[1], width),
            Hyper.init(state, width, hyper, key=keys[2]),
            make(keys[3], width),
            make(keys[4], 1, width),
            width,
        )

    def __call__(self, chosen: Array, best: Array, state: Array) -> Array:
        weights = jnp.abs(self.first(state)).reshape(*chosen.shape, self.width)
        hidden = jax.nn.elu((chosen[..., None] * weights).sum(-2) + self.first_bias(state))
        mixed = (hidden * jnp.abs(self.second(state))).sum(-1)
        return mixed + self.value(jax.nn.relu(self.value_hidden(state)))[..., 0]


class Plex(eqx.Module):
    """QPLEX (Wang et al. 2021): V_tot + Σ λ_i A_i with weights λ_i > 0 of state and joint values (duplex dueling).

    V_i = max Q_i and A_i = Q_i − V_i ≤ 0 are first scaled and shifted by the state; λ sees the state and all agents'
    advantages, so that the joint value is not limited to sums.
    """

    scale: Linear
    shift: Linear
    hidden: Linear
    importance: Linear

    @staticmethod
    def init(agents: int, state: int, *, width: int = 64, key: Key[Array, ""]) -> Plex:
        """For so many agents and state features."""
        keys = jax.random.split(key, 4)
        return Plex(
            Linear.init(state, agents, key=keys[0], scale=0.1),
            Linear.init(state, agents, key=keys[1], scale=0.1),
            Linear.init(state + agents, width, key=keys[2], scale=1.0),
            Linear.init(width, agents, key=keys[3], scale=0.1),
        )

    def __call__(self, chosen: Array, best: Array, state: Array) -> Array:
        scale = jnp.abs(1.0 + self.scale(state)) + 1e-6
        advantage = scale * (chosen - best)
        seen = jnp.concatenate([state, jax.lax.stop_gradient(advantage)], -1)
        weight = jnp.abs(1.0 + self.importance(jax.nn.relu(self.hidden(seen)))) + 1e-6
        return (scale * best + self.shift(state)).sum(-1) + (weight * advantage).sum(-1)
