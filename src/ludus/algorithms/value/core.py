"""What DQN, VDN, QMIX and QPLEX share: replay, targets, gradient steps. Subclasses say how values are mixed.

Learning happens in *units*: a group whose agents learn for themselves, or a team whose agents' values are mixed into
one. A unit has its networks, its mixer, its target and its optimiser; units never share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from ludus.algorithms.value.capabilities import misfit
from ludus.algorithms.value.hyperparameters import Hyperparameters
from ludus.algorithms.value.look import Everywhere, acting, action_values, joint_state, legal_actions, masked
from ludus.core.algorithm import Learner, Metrics
from ludus.core.game import GameSpec, GroupSpec
from ludus.core.policy import Policy
from ludus.core.rollout import Rollout
from ludus.core.sharding import num_shards, sum_over_shards
from ludus.learning.replay import Replay, Sample
from ludus.learning.returns import backups
from ludus.networks.mixers import Mixer
from ludus.networks.policy import IndependentPolicy, q_architecture
from ludus.networks.q_network import QNetwork, QPolicy


class Models(eqx.Module):
    """Networks by group, and the mixer of the unit."""

    networks: dict[str, QNetwork]
    mixer: Mixer | None


class Unit(eqx.Module):
    """All that one unit learns."""

    models: Models
    target: Models
    optimiser: Any


@dataclass(frozen=True)
class ValueLearner(Hyperparameters):
    """See the module."""

    mixes = False  # whether a team's values are mixed

    def mixer(self, agents: int, state: int, *, key: Key[Array, ""]) -> Mixer | None:
        """The mixer of a team of so many agents, for a state of so many features."""
        return None

    def check(self, spec: GameSpec, num_envs: int) -> str | None:
        """See `ludus.core.algorithm.Algorithm.check`."""
        return misfit(self, spec, num_envs)

    def units(self, spec: GameSpec) -> dict[str, list[GroupSpec]]:
        """The groups that learn together."""
        if not self.mixes:
            return {group.name: [group] for group in spec.groups}
        teams = dict.fromkeys(group.team for group in spec.groups)
        return {team: [group for group in spec.groups if group.team == team] for team in teams}

    def init(self, spec: GameSpec, num_envs: int, *, key: Key[Array, ""]) -> Learner:
        """Fresh parameters; the replay comes with `make_room`."""
        units = {}
        for i, (name, groups) in enumerate(self.units(spec).items()):
            keys = jax.random.split(jax.random.fold_in(key, i), len(groups) + 1)
            networks = {g.name: self._network(g, k) for g, k in zip(groups, keys[1:], strict=True)}
            mixer = None
            if self.mixes:
                size = spec.state.size if spec.state else sum(g.slots * g.observation.size for g in groups)
                mixer = self.mixer(sum(g.size for g in groups), size, key=keys[0])
            models = Models(networks, mixer)
            units[name] = Unit(models, jax.tree.map(jnp.copy, models), self._optimiser().init(models))
        count = jnp.zeros((), jnp.int32)
        return Learner({"spec": _Spec(spec), "units": units, "updates": count, "progress": jnp.zeros(())})

    def _network(self, group: GroupSpec, key: Key[Array, ""]) -> QNetwork:
        make = lambda k: QNetwork.init(
            group, self.network, dueling=self.dueling, quantiles=self.quantiles, agent_ids=self.agent_ids, key=k
        )
        return jax.vmap(make)(jax.random.split(key, group.size)) if self.parameters == "independent" else make(key)

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), optax.scale_by_adam(eps=1e-5))

    def make_room(self, learner: Learner, segment: Rollout, num_envs: int) -> Learner:
        """See `ludus.core.algorithm.Remembers.make_room`."""
        slots = max(1, self.capacity // (num_envs * self.rollout_length))
        return Learner(learner.shared, Replay.empty(segment, num_envs, slots, prioritised=self.prioritised))

    def policy(self, learner: Learner) -> dict[str, Policy]:
        """Exploring policies, one for each group."""
        spec: GameSpec = learner.shared["spec"].spec
        share = jnp.minimum(learner.shared["progress"] / max(self.explore_share, 1e-9), 1.0)
        amount = self.explore + (self.final_explore - self.explore) * share
        policies: dict[str, Policy] = {}
        for unit in learner.shared["units"].values():
            for name, network in unit.models.networks.items():
                if self.parameters == "independent":
                    size = spec.group(name).size
                    stack = QPolicy(network, jnp.broadcast_to(amount, (size,)), self.exploration)
                    policies[name] = IndependentPolicy(stack, size)
                else:
                    policies[name] = QPolicy(network, amount, self.exploration)
        return policies

    def architecture(self, group: GroupSpec) -> dict[str, Any]:
        """What restores a stored policy of a group."""
        return q_architecture(
            group,
            self.network,
            independent=self.parameters == "independent",
            agent_ids=self.agent_ids,
            dueling=self.dueling,
            quantiles=self.quantiles,
            kind=self.exploration,
        )

    def update(self, learner: Learner, rollout: Rollout, *, key: Key[Array, ""]) -> tuple[Learner, Metrics]:
        """Remember the rollout, then learn from what is remembered."""
        replay: Replay = learner.per_env.push(rollout)
        shared = {**learner.shared, "progress": rollout.progress}
        envs = replay.pushed.shape[0] * num_shards()
        enough = replay.pushed[0] * envs * self.rollout_length >= self.warm_up

        def one(carry: tuple, key: Key[Array, ""]) -> tuple[tuple, Metrics]:
            return self._gradient_step(spec, *carry, rollout.progress, key)

        def learn(carry: tuple) -> tuple[tuple, Metrics]:
            carry, metrics = jax.lax.scan(one, carry, jax.random.split(key, self.updates))
            return carry, jax.tree.map(lambda x: x.mean(0), metrics)

        spec: GameSpec = shared["spec"].spec
        carry = (shared["units"], shared["updates"], replay)
        shapes = jax.eval_shape(learn, carry)[1]
        wait = lambda carry: (carry, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
        (units, updates, replay), metrics = jax.lax.cond(enough, learn, wait, carry)
        return Learner({**shared, "units": units, "updates": updates}, replay), metrics

    def _gradient_step(
        self,
        spec: GameSpec,
        units: dict[str, Unit],
        updates: Int[Array, ""],
        replay: Replay,
        progress: Array,
        key: Key[Array, ""],
    ) -> tuple[tuple, Metrics]:
        correction = self.priority_correction + (1 - self.priority_correction) * progress
        sample = replay.sample(self.batch_size, key, exponent=self.priority_exponent, correction=correction)
        metrics: Metrics = {}
        errors, new = [], {}
        rate = self.learning_rate * (1.0 - progress if self.anneal else 1.0)
        copy = (updates + 1) % self.target_every == 0
        for name, groups in self.units(spec).items():
            unit = units[name]
            target, valid = self._targets(unit, sample.rollout, spec, groups)
            count = jnp.maximum(sum_over_shards(valid.sum(dtype=jnp.float32)), 1.0)
            loss = lambda m, g=groups, t=target, v=valid, c=count: self._loss(m, sample, spec, g, t, v, c)
            gradients, (error, own) = jax.grad(loss, has_aux=True)(unit.models)
            gradients, own = sum_over_shards((gradients, own))
            step, optimiser = self._optimiser().update(gradients, unit.optimiser)
            models = jax.tree.map(lambda p, u: p - rate * u, unit.models, step)
            moved = jax.tree.map(lambda t, m: jnp.where(copy, t + self.target_rate * (m - t), t), unit.target, models)
            new[name] = Unit(models, moved, optimiser)
            errors.append(error)
            metrics.update({f"{name}/{k}": x for k, x in own.items()})
        return (new, updates + 1, replay.prioritise(sample, sum(errors[1:], errors[0]))), metrics

    def _values(self, models: Models, rollout: Rollout, spec: GameSpec, groups: list[GroupSpec]) -> list[Everywhere]:
        independent = self.parameters == "independent"
        return [action_values(models.networks[g.name], rollout, spec, g, independent=independent) for g in groups]

    def _targets(self, unit: Unit, rollout: Rollout, spec: GameSpec, groups: list[GroupSpec]) -> tuple[Array, Array]:
        """`[time, env, agent, quantile]`, one agent where values are mixed, and where they are known."""
        values, moves = [], []
        newest = self._values(unit.models, rollout, spec, groups) if self.double else None
        for k, (group, old) in enumerate(zip(groups, self._values(unit.target, rollout, spec, groups), strict=True)):
            chooser = newest[k] if newest is not None else old
            values.append(greedy_values(chooser, old, legal_actions(rollout, group)))
            moves.append(acting(rollout, group))
        value = join(values)
        active = join(moves)
        reward = jnp.concatenate([rollout.groups[g.name].reward for g in groups], -1)
        if unit.target.mixer is not None:
            state = joint_state(rollout, spec, groups)
            alive = value.map(lambda v, a: jnp.where(a[..., None], v, 0.0), active)
            mix = lambda v, s: unit.target.mixer(v[..., 0], v[..., 0], s)[..., None, None]  # type: ignore[misc]
            value = alive.map(mix, state)
            active = active.map(lambda a: a.any(-1, keepdims=True))
            reward = reward.mean(-1, keepdims=True)
        target, valid = backups(
            reward, value, active, rollout, discount=self.discount, trace=self.trace, steps=self.steps
        )
        return jax.lax.stop_gradient(target), valid & (jnp.arange(valid.shape[0]) >= self.burn_in)[:, None, None]

    def _loss(
        self,
        models: Models,
        sample: Sample,
        spec: GameSpec,
        groups: list[GroupSpec],
        target: Float[Array, "time env agent quantile"],
        valid: Array,
        count: Float[Array, ""],
    ) -> tuple[Array, tuple[Array, Metrics]]:
        """A shard's part of the loss; each segment's error, and metrics."""
        rollout = sample.rollout
        chosen, best = [], []
        for group, values in zip(groups, self._values(models, rollout, spec, groups), strict=True):
            own = rollout.groups[group.name]
            action = own.action if own.seat is None else jnp.broadcast_to(own.action, own.acting.shape)
            legal = legal_actions(rollout, group)
            taken = jnp.take_along_axis(values.now, action[..., None, None], axis=-2).squeeze(-2)
            chosen.append(jnp.where(own.acting[..., None], taken, 0.0))
            top = masked(values.now.mean(-1), None if legal is None else legal.now).max(-1)
            best.append(jnp.where(own.acting, top, 0.0))
        value = jnp.concatenate(chosen, -2)
        if models.mixer is not None:
            state = joint_state(rollout, spec, groups).now
            value = models.mixer(value[..., 0], jnp.concatenate(best, -1), state)[..., None, None]
        error = target.mean(-1) - value.mean(-1)
        loss = self._penalty(value, target)
        weighted = jnp.where(valid, loss, 0.0) * sample.weight[:, None]
        size = jnp.where(valid, jnp.abs(error), 0.0)
        segment = jax.lax.stop_gradient(0.9 * size.max((0, 2)) + 0.1 * size.mean((0, 2)))
        total = weighted.sum() / count
        mean = lambda x: jnp.where(valid, x, 0.0).sum() / count
        return total, (segment, {"loss": total, "value": mean(value.mean(-1)), "absolute_error": mean(jnp.abs(error))})

    def _penalty(
        self, value: Float[Array, "time env agent quantile"], target: Float[Array, "time env agent quantile"]
    ) -> Float[Array, "time env agent"]:
        """Half the squared (or Huber) error; for quantiles, the asymmetric Huber loss over all pairs, eq. 10."""
        if self.quantiles == 1:
            error = (target - value)[..., 0]
            if self.huber <= 0:
                return 0.5 * jnp.square(error)
            return optax.losses.huber_loss(error, delta=self.huber)
        middle = (jnp.arange(self.quantiles) + 0.5) / self.quantiles
        error = target[..., None, :] - value[..., :, None]  # [predicted, target]
        width = self.huber if self.huber > 0 else 1.0
        weight = jnp.abs(middle[:, None] - (jax.lax.stop_gradient(error) < 0))
        return (weight * optax.losses.huber_loss(error, delta=width) / width).mean(-1).sum(-1)


def greedy_values(chooser: Everywhere, valued: Everywhere, legal: Everywhere | None) -> Everywhere:
    """`[…, agent, quantile]`: what `valued` gives the legal action that `chooser` thinks best."""

    def pick(choose: Array, value: Array, mask: Array | None = None) -> Array:
        best = jnp.argmax(masked(choose.mean(-1), mask), -1)
        return jnp.take_along_axis(value, best[..., None, None], axis=-2).squeeze(-2)

    return chooser.map(pick, valued) if legal is None else chooser.map(pick, valued, legal)


def join(parts: list[Everywhere]) -> Everywhere:
    """Groups side by side on the agent axis (the one after environments)."""
    first, *rest = parts
    axis = {"now": 2, "next": 1, "last": 2}
    put = lambda name: jnp.concatenate([getattr(p, name) for p in parts], axis[name])
    if not rest:
        return first
    return Everywhere(put("now"), put("next"), None if first.last is None else put("last"))


class _Spec(eqx.Module):
    """The game's specification, carried in the learner as static data."""

    spec: GameSpec = eqx.field(static=True)
