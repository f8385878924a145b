"""A policy and its critic: evaluated on minibatches with gradients, and on whole rollouts for their values."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ludus.algorithms.look import unroll
from ludus.algorithms.policy_gradient.batch import Batch
from ludus.algorithms.view import Everywhere, View, to_slots
from ludus.core.policy import Memory
from ludus.core.rollout import Rollout
from ludus.learning.statistics import ValueNormaliser
from ludus.networks.distributions import Distribution
from ludus.networks.layers import Linear
from ludus.networks.policy import NetworkPolicy, feature_size
from ludus.networks.torso import Layers, Network, Torso


class Models(eqx.Module):
    """A policy and its critic; without a torso of its own the critic reads the core of the policy's."""

    policy: NetworkPolicy
    critic: Torso | None
    after: Layers | None  # a torso-less critic's own layers
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
            core = policy.torso.core_size
            after = Layers.init(core, network.after, network, key=key_torso)
            width = network.after[-1] if network.after else core
            return Models(policy, None, after, Linear.init(width, 1, key=key_value, scale=1.0))
        torso = Torso.init(shape, network, agents=agents, key=key_torso)
        return Models(policy, torso, None, Linear.init(feature_size(torso), 1, key=key_value, scale=1.0))

    def critic_memory(self, batch: tuple[int, ...]) -> Memory:
        """The critic's memory at the start of an episode."""
        return () if self.critic is None else self.critic.initial_memory(batch)

    def _value(self, core: Float[Array, "*batch core"]) -> Float[Array, "*batch"]:
        """The value that the critic reads off its torso's core."""
        after = self.after if self.critic is None else self.critic.after
        assert after is not None
        return self.value(after(core))[..., 0]

    def evaluate(self, batch: Batch) -> tuple[Distribution, Float[Array, "time env slot"]]:
        """Action distributions and values of a minibatch."""
        now, torso = batch.now, self.policy.torso
        core, _ = torso.unroll_core(now.observation, batch.memory, batch.start, now.seat, now.acting)
        distribution = self.policy.head(torso.after(core), batch.legal)
        if self.critic is not None:
            core, _ = self.critic.unroll_core(now.critic_input, batch.critic_memory, batch.start, now.seat, now.acting)
        return distribution, self._value(core)

    def ratio(self, own: View, rollout: Rollout) -> Float[Array, "time env slot"]:
        """π/μ: how much more probable each action is now than it was to whoever chose it."""
        torso = self.policy.torso
        core, _ = torso.unroll_core(own.now.observation, own.memory, rollout.start, own.now.seat, own.now.acting)
        log_prob = self.policy.head(torso.after(core), own.legal).log_prob(own.action)
        return jnp.exp(jnp.where(to_slots(own.now.acting, own.now.seat), log_prob - own.log_prob, 0.0))

    def values(self, own: View, critic_memory: Memory, rollout: Rollout) -> tuple[Everywhere, Memory]:
        """Values of all steps, of what follows, and of true last moments; and the critic's memory at the end."""
        torso, memory = (self.policy.torso, own.memory) if self.critic is None else (self.critic, critic_memory)
        see = lambda g: g.observation if self.critic is None else g.critic_input
        cores, final = unroll(
            torso, own, rollout, memory, see, memories=() if self.critic is not None else own.memories
        )
        return cores.map(self._value), critic_memory if self.critic is None else final


class GroupLearner(eqx.Module):
    """Parameters, optimiser state and value normaliser of one group; stacked over agents if independent."""

    models: Models
    optimiser: Any
    normaliser: ValueNormaliser
