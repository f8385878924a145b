"""Neural fictitious self-play (Heinrich & Silver 2016): a best response by DQN, and the average of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from ludus.algorithms.value.anticipation import Anticipating
from ludus.algorithms.value.dqn import DQN
from ludus.core.algorithm import Known, Learner, Metrics
from ludus.core.policy import Policy
from ludus.core.rollout import Rollout
from ludus.core.sharding import sum_over_shards
from ludus.core.spec import GameSpec, GroupSpec
from ludus.learning.reservoir import Reservoir
from ludus.networks.build import architecture
from ludus.networks.policy import NetworkPolicy
from ludus.networks.torso import Network


class Average(eqx.Module):
    """An average policy and its optimiser."""

    policy: NetworkPolicy
    optimiser: Any


def _best_response() -> DQN:
    """Exploration and step sizes as in the paper, scaled to many environments at once."""
    return DQN(
        learning_rate=5e-3,
        explore=0.06,
        final_explore=0.001,
        explore_share=1.0,
        discount=1.0,
        double=False,
        rollout_length=4,
        updates=4,
        batch_size=64,
        capacity=20_000,
        target_every=300,
    )


@dataclass(frozen=True)
class NFSP:
    """All agents of a group share both networks. What it settles on is the average policy."""

    anticipation: float = 0.1
    """η: the share of episodes in which an agent plays its best response."""
    reservoir: int = 500_000
    """Decisions of best responses that are kept, over all environments: a uniform sample of all there ever were."""
    learning_rate: float = 5e-3
    """Step size of the average policy."""
    updates: int = 4
    """Gradient steps of the average policy after each rollout."""
    batch_size: int = 512
    """Decisions of each of them, over all devices."""
    best: DQN = field(default_factory=_best_response)
    """Who learns the best response."""
    network: Network = field(default_factory=Network)
    """The average policy's network."""

    @property
    def rollout_length(self) -> int:
        """The best response's."""
        return self.best.rollout_length

    def check(self, spec: GameSpec, num_envs: int) -> str | None:
        """See `ludus.core.algorithm.Algorithm.check`."""
        if self.best.parameters != "shared" or self.network.memory != "none" or self.best.network.memory != "none":
            return "nfsp has shared parameters and networks without memory"
        return self.best.check(spec, num_envs)

    def init(self, spec: GameSpec, num_envs: int, *, key: Key[Array, ""]) -> Learner:
        """A fresh best response and a fresh average for every group."""
        key_best, key_average = jax.random.split(key)
        best = self.best.init(spec, num_envs, key=key_best)
        averages = {}
        for i, group in enumerate(spec.groups):
            policy = NetworkPolicy.init(group, self.network, key=jax.random.fold_in(key_average, i))
            averages[group.name] = Average(policy, self._optimiser().init(policy))
        return Learner({"spec": Known(spec), "best": best.shared, "averages": averages}, (best.per_env, ()))

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(10.0), optax.scale_by_adam(eps=1e-5))

    def make_room(self, learner: Learner, segment: Rollout, num_envs: int) -> Learner:
        """See `ludus.core.algorithm.Remembers.make_room`."""
        best = self.best.make_room(self._best(learner), _plain(segment), num_envs)
        slots = max(1, self.reservoir // num_envs)
        kept = {}
        for name, group in segment.groups.items():
            item = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), _decisions(group))
            kept[name] = [Reservoir.empty(item, num_envs, slots)]
        return Learner(learner.shared, (best.per_env, kept))

    def _best(self, learner: Learner) -> Learner:
        return Learner(learner.shared["best"], learner.per_env[0] if learner.per_env else ())

    def policy(self, learner: Learner) -> dict[str, Policy]:
        """What acts: a mixture of both, drawn for every agent and episode."""
        best = self.best.policy(self._best(learner))
        averages = self.settled(learner)
        return {name: Anticipating(best[name], averages[name], self.anticipation) for name in best}  # type: ignore[arg-type]

    def settled(self, learner: Learner) -> dict[str, Policy]:
        """What it stands for: the average policies."""
        return {name: average.policy for name, average in learner.shared["averages"].items()}

    def architecture(self, group: GroupSpec) -> dict[str, Any]:
        """What restores a stored average policy."""
        return architecture(group, self.network)

    def update(self, learner: Learner, rollout: Rollout, *, key: Key[Array, ""]) -> tuple[Learner, Metrics]:
        """The best response learns from everything, the average from what best responses decided."""
        key_best, key_push, key_learn = jax.random.split(key, 3)
        best, metrics = self.best.update(self._best(learner), _plain(rollout), key=key_best)
        averages, reservoirs = {}, {}
        for i, (name, group) in enumerate(rollout.groups.items()):
            reservoir = _keep(learner.per_env[1][name][0], group, jax.random.fold_in(key_push, i))
            average: Average = learner.shared["averages"][name]
            averages[name], loss = self._imitate(average, reservoir, jax.random.fold_in(key_learn, i))
            reservoirs[name] = [reservoir]
            metrics[f"{name}/average_loss"] = loss
        shared = {"spec": learner.shared["spec"], "best": best.shared, "averages": averages}
        return Learner(shared, (best.per_env, reservoirs)), metrics

    def _imitate(self, average: Average, reservoir: Reservoir, key: Key[Array, ""]) -> tuple[Average, Array]:
        """Cross-entropy to the best responses' decisions."""

        def loss(policy: NetworkPolicy, sample: dict[str, Array]) -> Float[Array, ""]:
            distribution, _ = policy.distribution(sample["observation"], sample.get("legal"))
            return -distribution.log_prob(sample["action"]).mean()

        def step(average: Average, key: Key[Array, ""]) -> tuple[Average, Array]:
            found, slope = jax.value_and_grad(loss)(average.policy, reservoir.sample(self.batch_size, key))
            count = jnp.maximum(sum_over_shards(jnp.ones(())), 1.0)
            slope = jax.tree.map(lambda x: sum_over_shards(x) / count, slope)
            update, state = self._optimiser().update(slope, average.optimiser)
            moved = jax.tree.map(lambda p, u: p - self.learning_rate * u, average.policy, update)
            return Average(moved, state), found

        def learn(average: Average) -> tuple[Average, Array]:
            average, losses = jax.lax.scan(step, average, jax.random.split(key, self.updates))
            return average, losses.mean()

        enough = reservoir.filled.sum() >= self.batch_size
        enough = sum_over_shards(1.0 - enough.astype(jnp.float32)) == 0
        return jax.lax.cond(enough, learn, lambda a: (a, jnp.zeros(())), average)


def _plain(rollout: Rollout) -> Rollout:
    """A rollout as the best response knows it: without which policy played."""
    names = list(rollout.groups)
    chosen = lambda r: [part for name in names for part in (r.groups[name].memory, r.groups[name].extras)]
    plain: Rollout = eqx.tree_at(chosen, rollout, [(), {}] * len(names))
    return plain


def _decisions(group: Any) -> dict[str, Array]:
    """What the average learns from, by step and row."""
    found = {"observation": group.observation, "action": group.action}
    return found if group.legal is None else {**found, "legal": group.legal}


def _keep(reservoir: Reservoir, group: Any, key: Key[Array, ""]) -> Reservoir:
    """Offer every decision that a best response made."""
    acting = group.acting if group.seat is None else jnp.take_along_axis(group.acting, group.seat, axis=-1)
    chosen = acting & group.extras["best"]  # [time, env, slot]
    steps, _, slots = chosen.shape

    def offer(reservoir: Reservoir, at: Array) -> tuple[Reservoir, None]:
        time, slot = at // slots, at % slots
        item = jax.tree.map(lambda x: x[time, :, slot], _decisions(group))
        return reservoir.push(item, jax.random.fold_in(key, at), chosen[time, :, slot]), None

    return jax.lax.scan(offer, reservoir, jnp.arange(steps * slots))[0]
