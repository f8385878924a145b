"""Policies made of networks: one for all agents of a group, or one for each."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from ludus.core.policy import Decision, Memory
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GroupSpec
from ludus.networks.acting import Acts
from ludus.networks.distributions import Categorical, Distribution, Gaussian
from ludus.networks.layers import Linear
from ludus.networks.torso import Network, Torso


class Head(eqx.Module):
    """Features to an action distribution."""

    linear: Linear
    log_std: Float[Array, "*stack action"] | None  # Gaussian only, in units of half the space's width
    space: Discrete | Box = eqx.field(static=True)

    @staticmethod
    def init(features: int, space: Discrete | Box, *, key: Key[Array, ""]) -> Head:
        """Small weights, so that the first policy is nearly uniform."""
        if isinstance(space, Discrete):
            return Head(Linear.init(features, space.n, key=key, scale=0.01), None, space)
        return Head(Linear.init(features, space.size, key=key, scale=0.01), jnp.zeros(space.size), space)

    def __call__(self, x: Float[Array, "*batch feature"], legal: Bool[Array, "*batch action"] | None) -> Distribution:
        y = self.linear(x)
        if self.log_std is None:
            return Categorical.of(y, legal)
        low, high = self.bounds()
        half = (high - low) / 2
        return Gaussian(low + half + half * y, jnp.broadcast_to(self.log_std + jnp.log(half), y.shape))

    def bounds(self) -> tuple[Array, Array]:
        """The lower and upper bounds of each entry of a continuous action."""
        assert isinstance(self.space, Box)
        low, high = (jnp.broadcast_to(jnp.asarray(b, jnp.float32), (self.space.size,)) for b in self._edges())
        return low, high

    def _edges(self) -> tuple[Any, Any]:
        assert isinstance(self.space, Box)
        return self.space.low, self.space.high


class NetworkPolicy(Acts):
    """One network for all agents of a group."""

    torso: Torso
    head: Head

    @staticmethod
    def init(group: GroupSpec, network: Network, *, agent_ids: bool = False, key: Key[Array, ""]) -> NetworkPolicy:
        """A fresh policy for a group."""
        key_torso, key_head = jax.random.split(key)
        agents = group.size if agent_ids else 0
        torso = Torso.init(group.observation.shape, network, agents=agents, key=key_torso)
        return NetworkPolicy(torso, Head.init(feature_size(torso), group.action, key=key_head))

    def initial_memory(self, batch: tuple[int, ...]) -> Memory:
        """Zeros for a recurrent torso, else ()."""
        return self.torso.initial_memory(batch)

    def decide(self, distribution: Distribution, memory: Memory, key: Key[Array, ""] | None, explore: bool) -> Decision:
        """Sample, or take the mode (continuous: within bounds)."""
        if explore or not isinstance(distribution, Gaussian):
            return super().decide(distribution, memory, key, explore)
        action = jnp.clip(distribution.mode(), *self.head.bounds())
        return Decision(action, distribution.log_prob(action), memory)

    def distribution(
        self,
        observation: Shaped[Array, "..."],
        legal: Bool[Array, "..."] | None = None,
        memory: Memory = (),
        *,
        explore: bool = True,
        agent: Int[Array, "..."] | None = None,
    ) -> tuple[Distribution, Memory]:
        """See `ludus.core.policy.Stochastic.distribution`; it is the same with and without exploring."""
        observation = jnp.asarray(observation)
        if self.torso.recurrent and isinstance(memory, tuple):
            memory = self.initial_memory(observation.shape[: observation.ndim - self.torso.observation_rank])
        features, memory = self.torso.step(observation, memory, agent)
        return self.head(features, legal), memory


class IndependentPolicy(Acts):
    """One network for each agent of a group: a stack of policies, vmapped over the agent axis."""

    stack: Any  # a policy with a torso, whose every array leads with an agent axis
    size: int = eqx.field(static=True)

    def initial_memory(self, batch: tuple[int, ...]) -> Memory:
        """As of one policy: the agent axis is the last of `batch`."""
        return self.stack.torso.initial_memory(batch)

    def decide(self, distribution: Any, memory: Memory, key: Key[Array, ""] | None, explore: bool) -> Decision:
        """As one policy does."""
        return self.stack.decide(distribution, memory, key, explore)

    def distribution(
        self,
        observation: Shaped[Array, "..."],
        legal: Bool[Array, "..."] | None = None,
        memory: Memory = (),
        *,
        explore: bool = True,
        agent: Int[Array, "..."] | None = None,
    ) -> tuple[Any, Memory]:
        """See `ludus.core.policy.Stochastic.distribution`; it is the same with and without exploring."""
        observation = jnp.asarray(observation)
        axis = observation.ndim - self.stack.torso.observation_rank - 1
        if self.stack.torso.recurrent and isinstance(memory, tuple):
            memory = self.initial_memory(observation.shape[: axis + 1])
        if agent is None:
            row_axes: tuple[int | None, ...] = (
                axis,
                None if legal is None else axis,
                axis if self.stack.torso.recurrent else None,
            )
        else:
            row_axes = (None, None, None)

        def logits(policy: Any, x: Array, mask: Array | None, h: Memory) -> tuple[Any, Memory]:
            found: tuple[Any, Memory] = policy.distribution(x, mask, h, explore=explore)
            return found

        # eqx.filter_vmap would also map static fields; the stack's arrays are all of its leaves.
        distribution, memory = jax.vmap(logits, in_axes=(0, *row_axes), out_axes=axis)(
            self.stack, observation, legal, memory
        )
        if agent is not None:  # the agent axis was added: keep, of each row, its own agent's
            own = lambda x: jnp.take_along_axis(x, _at(agent, axis, x.ndim), axis=axis).squeeze(axis)
            distribution, memory = jax.tree.map(own, (distribution, memory))
        return distribution, memory


def _at(agent: Int[Array, "..."], axis: int, ndim: int) -> Int[Array, "..."]:
    """Index of each row's agent, shaped for take_along_axis on arrays with an agent axis inserted at `axis`."""
    index = jnp.expand_dims(agent, axis)
    return index.reshape(*index.shape, *([1] * (ndim - index.ndim)))


def feature_size(torso: Torso) -> int:
    """The width of a torso's features."""
    return int(torso.after.linears[-1].weight.shape[-1]) if torso.after.linears else torso.core_size
