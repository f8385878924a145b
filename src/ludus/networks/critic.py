"""Action-value critics of continuous or one-hot actions."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from ludus.networks.layers import Linear
from ludus.networks.policy import feature_size
from ludus.networks.torso import Network, Torso


class Critic(eqx.Module):
    """A vector of observations and actions to one value for each of several networks; every array leads with them."""

    torso: Torso
    value: Linear

    @staticmethod
    def init(inputs: int, network: Network, *, twins: int, key: Key[Array, ""]) -> Critic:
        """`twins` networks of the same fully connected layers."""
        shape = replace(network, conv=(), memory="none")

        def one(key: Key[Array, ""]) -> Critic:
            key_torso, key_value = jax.random.split(key)
            torso = Torso.init((inputs,), shape, key=key_torso)
            return Critic(torso, Linear.init(feature_size(torso), 1, key=key_value, scale=1.0))

        made: Critic = jax.vmap(one)(jax.random.split(key, twins))
        return made

    def __call__(self, x: Float[Array, "*batch feature"]) -> Float[Array, "*batch twin"]:
        one = lambda critic: critic.value(critic.torso.step(x, ())[0])[..., 0]
        values: Array = jax.vmap(one, out_axes=-1)(self)
        return values
