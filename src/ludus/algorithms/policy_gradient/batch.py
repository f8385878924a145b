"""From a view to what gradient steps consume: values, advantages, and minibatches that cost little to cut.

Without memory, minibatches are random sets of time steps over all environments: rows of a time-major array are
contiguous, and the cut is the same however environments are spread over devices. With memory, they are whole
sequences of some environments, one from each run of neighbours, for the same reason.
"""

from __future__ import annotations

from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from ludus.algorithms.policy_gradient.view import Glimpse, View, to_agents, to_slots
from ludus.core.policy import Memory
from ludus.core.rollout import Rollout
from ludus.core.sharding import shard_index
from ludus.learning.returns import generalised_advantages
from ludus.learning.statistics import ValueNormaliser
from ludus.networks.distributions import Distribution
from ludus.networks.layers import Linear
from ludus.networks.policy import NetworkPolicy, feature_size
from ludus.networks.torso import Network, Torso


CHUNK = 512  # rows of a feed-forward network whose activations stay in a host core's cache, by measurement


class Estimation(Protocol):
    """How a method estimates advantages; see `ActorCritic` for the fields."""

    discount: float
    trace: float
    normalise_values: bool
    baseline: bool

    def knows_next(self, acting: Array) -> Array:
        """Whether the future of an agent that is (not) `acting` at a cut may be bootstrapped."""
        ...

    def scale_advantages(self, advantage: Array, weight: Array) -> Array:
        """What the policy's loss sees of them."""
        ...


class Batch(eqx.Module):
    """Experience ready for gradient steps. Time-major but for the memories, which lead with environments."""

    now: Glimpse
    start: Bool[Array, "time env"]
    legal: Bool[Array, "time env slot action"] | None
    action: Shaped[Array, "time env slot ..."]
    log_prob: Float[Array, "time env slot"]
    advantage: Float[Array, "time env slot"]
    target: Float[Array, "time env slot"]
    old_value: Float[Array, "time env slot"]
    weight: Bool[Array, "time env slot"]
    memory: Memory
    critic_memory: Memory

    @property
    def recurrent(self) -> bool:
        """Whether sequences must stay whole."""
        return bool(jax.tree.leaves((self.memory, self.critic_memory)))

    def shuffle(self, key: Key[Array, ""], parts: int) -> Int[Array, "part index"]:
        """Indices of each minibatch: time steps, or environments if sequences must stay whole."""
        time, envs = self.log_prob.shape[:2]
        if not self.recurrent:
            return jax.random.permutation(key, time).reshape(parts, -1)
        blocks = envs // parts
        first = shard_index() * blocks
        keys = jax.vmap(lambda b: jax.random.fold_in(key, b))(first + jnp.arange(blocks))
        order = jax.vmap(lambda k: jax.random.permutation(k, parts))(keys)
        return (order + parts * jnp.arange(blocks)[:, None]).T

    def fold(self) -> tuple[Batch, int]:
        """The same batch with runs of environments as further time steps, so that one step is a small piece; and
        into how many pieces a step was cut. Batches with memory stay as they are."""
        envs, slots = self.log_prob.shape[1:3]
        if self.recurrent or jax.default_backend() != "cpu":
            return self, 1
        pieces = next(p for p in range(1, envs + 1) if envs % p == 0 and (envs // p * slots <= CHUNK or p == envs))
        return jax.tree.map(lambda x: x.reshape(x.shape[0] * pieces, envs // pieces, *x.shape[2:]), self), pieces

    def chunks(self, index: Int[Array, " index"], pieces: int) -> Int[Array, "chunk index"]:
        """A minibatch's indices into the folded batch, in chunks whose activations stay in a core's cache."""
        index = (index[:, None] * pieces + jnp.arange(pieces)).reshape(-1)
        count, rows = index.shape[0], self.log_prob[0].size
        chunks = 1
        if not self.recurrent and jax.default_backend() == "cpu":
            chunks = next(c for c in range(1, count + 1) if count % c == 0 and (count // c * rows <= CHUNK or c == count))
        return index.reshape(chunks, -1)

    def take(self, index: Int[Array, " index"]) -> Batch:
        """One minibatch."""
        if not self.recurrent:
            return jax.tree.map(lambda x: x[index], self)
        timed = lambda tree: jax.tree.map(lambda x: x[:, index], tree)
        whole = lambda tree: jax.tree.map(lambda x: x[index], tree)
        fields = {f: timed(getattr(self, f)) for f in self.__dataclass_fields__ if not f.endswith("memory")}
        return Batch(**fields, memory=whole(self.memory), critic_memory=whole(self.critic_memory))


class Models(eqx.Module):
    """A policy and its critic; without a torso of its own the critic reads the policy's features."""

    policy: NetworkPolicy
    critic: Torso | None
    value: Linear

    @staticmethod
    def init(
        policy: NetworkPolicy, shape: tuple[int, ...], network: Network, *, agents: int, share: bool, key: Key[Array, ""]
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

    def values(
        self, own: View, critic_memory: Memory, rollout: Rollout
    ) -> tuple[Array, Array, Array | None, Memory]:
        """Values of all steps, of what follows, and of true last moments; and the critic's memory at the end."""
        torso, memory = (self.policy.torso, own.memory) if self.critic is None else (self.critic, critic_memory)
        look = lambda g: g.observation if self.critic is None else g.critic_input
        features, memories = torso.unroll(look(own.now), memory, rollout.start, own.now.seat, own.now.acting)
        final = jax.tree.map(lambda m: m[-1], memories)

        def value_at(glimpse: Glimpse, memory: Memory) -> Array:
            if glimpse.seat is not None:
                memory = jax.tree.map(lambda m: jnp.take_along_axis(m, glimpse.seat[..., None], axis=-2), memory)
            return self.value(torso.step(look(glimpse), memory, glimpse.seat)[0])[..., 0]

        last = None
        if own.last is not None:
            time = jnp.minimum(rollout.last_time, rollout.start.shape[0] - 1)
            before = jax.tree.map(lambda m: m[time, jnp.arange(time.shape[1])], memories)
            last = value_at(own.last, before)
        kept = critic_memory if self.critic is None else final
        return self.value(features)[..., 0], value_at(own.next, final), last, kept


def prepare(
    method: Estimation,
    models: Models,
    normaliser: ValueNormaliser,
    critic_memory: Memory,
    own: View,
    rollout: Rollout,
) -> tuple[Batch, Memory, ValueNormaliser]:
    """Estimate advantages with the values of before the update."""
    value, next_value, last_value, kept = models.values(own, critic_memory, rollout)
    restore = normaliser.restore if method.normalise_values else (lambda x: x)
    agents = own.reward.shape[-1]
    value, next_value = restore(value), restore(next_value)
    if not method.baseline:
        value = jnp.zeros_like(value)
    spread = lambda x: to_agents(x, agents)
    last, known = jnp.zeros_like(own.reward), jnp.zeros_like(own.now.acting)
    if own.last is not None and last_value is not None:
        at = (rollout.last_time, jnp.arange(own.reward.shape[1]))
        last = last.at[at].set(spread(restore(last_value)), mode="drop")
        known = known.at[at].set(own.last.acting, mode="drop")
    estimate = generalised_advantages(
        reward=own.reward,
        value=spread(value),
        acting=own.now.acting,
        terminated=rollout.terminated,
        truncated=rollout.truncated,
        next_value=spread(next_value),
        next_known=method.knows_next(own.next.acting),
        last_value=last,
        last_known=method.knows_next(known),
        discount=method.discount,
        trace=method.trace,
    )
    seat = own.now.seat
    weight = to_slots(estimate.valid, seat)
    target = to_slots(estimate.target, seat)
    if method.normalise_values:
        normaliser = normaliser.update(target, weight)
    batch = Batch(
        now=own.now,
        start=rollout.start,
        legal=own.legal,
        action=own.action,
        log_prob=own.log_prob,
        advantage=method.scale_advantages(to_slots(estimate.advantage, seat), weight),
        target=target,
        old_value=value,
        weight=weight,
        memory=own.memory,
        critic_memory=critic_memory,
    )
    return batch, kept, normaliser
