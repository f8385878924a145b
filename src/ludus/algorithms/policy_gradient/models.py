"""A policy and its critic: evaluated on minibatches with gradients, and on whole rollouts for their values."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ludus.algorithms.policy_gradient.batch import Batch
from ludus.algorithms.policy_gradient.view import Glimpse, View
from ludus.core.policy import Memory
from ludus.core.rollout import Rollout
from ludus.learning.statistics import ValueNormaliser
from ludus.networks.distributions import Distribution
from ludus.networks.layers import Linear
from ludus.networks.policy import NetworkPolicy, feature_size
from ludus.networks.torso import Network, Torso


class Models(eqx.Module):
    """A policy and its critic; without a torso of its own the critic reads the policy's features."""

    policy: NetworkPolicy
    critic: Torso | None
    value: Linear

    @staticmethod
    def init(
        policy: NetworkPolicy,
        shape: tuple[int, ...],
        network: Network,
        *,
        agents: int,
        share: bool,
        key: Key[Array, ""],
    ) -> Models:
        """A critic for inputs of this shape."""
        key_torso, key_value = jax.random.split(key)
        if share:
            return Models(policy, None, Linear.init(feature_size(policy.torso), 1, key=key_value, scale=1.0))
        torso = Torso.init(shape, network, agents=agents, key=key_torso)
        return Models(policy, torso, Linear.init(feature_size(torso), 1, key=key_value, scale=1.0))

    def critic_memory(self, batch: tuple[int, ...]) -> Memory:
        """The critic's memory at the start of an episode."""
        return () if self.critic is None else self.critic.initial_memory(batch)

    def evaluate(self, batch: Batch) -> tuple[Distribution, Float[Array, "time env slot"]]:
        """Action distributions and values of a minibatch."""
        now = batch.now
        features, _ = self.policy.torso.unroll(now.observation, batch.memory, batch.start, now.seat, now.acting)
        distribution = self.policy.head(features, batch.legal)
        if self.critic is not None:
            features, _ = self.critic.unroll(now.critic_input, batch.critic_memory, batch.start, now.seat, now.acting)
        return distribution, self.value(features)[..., 0]

    def values(self, own: View, critic_memory: Memory, rollout: Rollout) -> tuple[Array, Array, Array | None, Memory]:
        """Values of all steps, of what follows, and of true last moments; and the critic's memory at the end."""
        torso, memory = (self.policy.torso, own.memory) if self.critic is None else (self.critic, critic_memory)
        look = lambda g: g.observation if self.critic is None else g.critic_input
        features, memories = torso.unroll(look(own.now), memory, rollout.start, own.now.seat, own.now.acting)
        final = jax.tree.map(lambda m: m[-1], memories)

        def value_at(glimpse: Glimpse, memory: Memory) -> Array:
            if (seat := glimpse.seat) is not None:
                memory = jax.tree.map(lambda m: jnp.take_along_axis(m, seat[..., None], axis=-2), memory)
            return self.value(torso.step(look(glimpse), memory, glimpse.seat)[0])[..., 0]

        last = None
        if own.last is not None and rollout.last_time is not None:
            time = jnp.minimum(rollout.last_time, rollout.start.shape[0] - 1)
            before = jax.tree.map(lambda m: m[time, jnp.arange(time.shape[1])], memories)
            last = value_at(own.last, before)
        kept = critic_memory if self.critic is None else final
        return self.value(features)[..., 0], value_at(own.next, final), last, kept


class GroupLearner(eqx.Module):
    """Parameters, optimiser state and value normaliser of one group; stacked over agents if independent."""

    models: Models
    optimiser: Any
    normaliser: ValueNormaliser
