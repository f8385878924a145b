"""Policies of off-policy actor–critic methods: deterministic with noise, squashed Gaussian, or categorical."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from ludus.core.policy import Decision, Memory
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GroupSpec
from ludus.networks.acting import Acts, required
from ludus.networks.distributions import Categorical, Noisy, Squashed, Uniform
from ludus.networks.layers import Linear
from ludus.networks.policy import feature_size
from ludus.networks.torso import Network, Torso

LOG_STD = (-5.0, 2.0)


class ActorNetwork(eqx.Module):
    """What is learned of an actor: observation to outputs."""

    torso: Torso
    head: Linear

    @staticmethod
    def init(
        group: GroupSpec, network: Network, *, stochastic: bool, agent_ids: bool = False, key: Key[Array, ""]
    ) -> ActorNetwork:
        """Small last weights for boxes, so that the first actions are nearly the middle. Not so for discrete actions:
        messages that are answered a little, if at random, may come to mean something."""
        key_torso, key_head = jax.random.split(key)
        torso = Torso.init(group.observation.shape, network, agents=group.size if agent_ids else 0, key=key_torso)
        outputs = group.action.n if isinstance(group.action, Discrete) else group.action.size * (1 + stochastic)
        scale = 1.0 if isinstance(group.action, Discrete) else 0.01
        return ActorNetwork(torso, Linear.init(feature_size(torso), outputs, key=key_head, scale=scale))

    def __call__(
        self, observation: Shaped[Array, "..."], agent: Int[Array, "..."] | None = None
    ) -> Float[Array, "... output"]:
        return self.head(self.torso.step(jnp.asarray(observation), (), agent)[0])


class Actor(Acts):
    """Feed-forward. Continuous actions are tanh-squashed into their box, with noise of `noise` half-widths, or sampled
    where `stochastic`; discrete ones are always sampled."""

    network: ActorNetwork
    noise: Float[Array, "*stack"]
    random: Bool[Array, "*stack"]  # whether exploring is uniformly random, as at the beginning
    space: Discrete | Box = eqx.field(static=True)
    stochastic: bool = eqx.field(static=True)

    @property
    def torso(self) -> Torso:
        """The network's."""
        return self.network.torso

    def distribution(
        self,
        observation: Shaped[Array, "..."],
        legal: Bool[Array, "..."] | None = None,
        memory: Memory = (),
        *,
        explore: bool = True,
        agent: Int[Array, "..."] | None = None,
    ) -> tuple[Any, Memory]:
        """See `ludus.core.policy.Stochastic.distribution`."""
        return read(self.space, self.stochastic, self.network(observation, agent), legal, self.noise), memory

    def decide(self, distribution: Any, memory: Memory, key: Key[Array, ""] | None, explore: bool) -> Decision:
        """Sample, or take the mode; at the beginning continuous actions are drawn from the whole box."""
        decision = super().decide(distribution, memory, key, explore)
        if not explore or isinstance(distribution, Categorical):
            return decision
        uniform = Uniform(distribution.low, distribution.high)
        drawn = uniform.sample(jax.random.fold_in(required(key), 1))
        random = jnp.broadcast_to(self.random, decision.log_prob.shape)
        log_prob = jnp.where(random, uniform.log_prob(drawn), decision.log_prob)
        return Decision(jnp.where(random[..., None], drawn, decision.action), log_prob, memory)


class Ensemble(Acts):
    """Sub-policies, of which each agent plays one throughout an episode, drawn at its start (Lowe et al. 2017)."""

    stack: Any  # policies of a group, every array led by the sub-policy axis
    members: int = eqx.field(static=True)

    def initial_memory(self, batch: tuple[int, ...]) -> Memory:
        """None is drawn yet."""
        return jnp.full(batch, -1, jnp.int32)

    def act(
        self,
        observation: Shaped[Array, "..."],
        legal: Bool[Array, "..."] | None = None,
        memory: Memory = (),
        *,
        key: Key[Array, ""] | None = None,
        explore: bool = False,
        agent: Int[Array, "..."] | None = None,
    ) -> Decision:
        """See `ludus.core.policy.Policy.act`. Without a key the first sub-policy plays."""
        every = jax.vmap(lambda p: p.distribution(observation, legal, explore=explore, agent=agent)[0])(self.stack)
        shape = _batch(every)
        if isinstance(memory, tuple):
            memory = self.initial_memory(shape)
        drawn = jnp.zeros(shape, jnp.int32)
        if key is not None:
            drawn = jax.random.randint(jax.random.fold_in(key, 2), shape, 0, self.members)
        member = jnp.where(memory < 0, drawn, memory)
        decision = jax.tree.map(lambda x: x[0], self.stack).decide(pick(every, member), (), key, explore)
        return Decision(decision.action, decision.log_prob, member, {"member": member})


def read(
    space: Discrete | Box,
    stochastic: bool,
    y: Float[Array, "*batch output"],
    legal: Bool[Array, "*batch action"] | None,
    noise: Float[Array, "*stack"] | None = None,
) -> Categorical | Noisy | Squashed:
    """The distribution of an actor's outputs."""
    if isinstance(space, Discrete):
        return Categorical.of(y, legal)
    low, high = edges(space, y.shape[:-1])
    if stochastic:
        return Squashed(y[..., : space.size], jnp.clip(y[..., space.size :], *LOG_STD), low, high)
    half = 0.5 * (high - low)
    spread = jnp.zeros_like(half) if noise is None else half * noise[..., None]
    return Noisy(low + half * (jnp.tanh(y) + 1), spread, low, high)


def _batch(distribution: Any) -> tuple[int, ...]:
    """The batch axes of stacked distributions."""
    shape: tuple[int, ...] = jax.tree.leaves(distribution)[0].shape[1:-1]
    return shape


def pick(every: Any, member: Int[Array, "*batch"]) -> Any:
    """Of arrays `[member, *batch, …]`, each place's own member."""

    def own(x: Array) -> Array:
        index = member.reshape(1, *member.shape, *[1] * (x.ndim - 1 - member.ndim))
        return jnp.take_along_axis(x, index, axis=0)[0]

    return jax.tree.map(own, every)


def edges(space: Box, lead: tuple[int, ...]) -> tuple[Array, Array]:
    """A box's lower and upper bounds for actions with these axes in front."""
    edge = lambda b: jnp.broadcast_to(jnp.asarray(b, jnp.float32), (*lead, space.size))
    return edge(space.low), edge(space.high)
