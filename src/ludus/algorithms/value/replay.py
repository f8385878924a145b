"""What DQN, VDN, QMIX and QPLEX share: replay, target networks, gradient steps."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from ludus.algorithms.replayed import Replayed
from ludus.algorithms.value.capabilities import misfit_replay
from ludus.algorithms.value.core import Unit, ValueCore
from ludus.algorithms.value.hyperparameters import ReplayHyperparameters
from ludus.algorithms.value.objective import gradients, targets
from ludus.core.algorithm import Learner, Metrics
from ludus.core.rollout import Rollout
from ludus.core.spec import GameSpec
from ludus.learning.replay import Sample


@dataclass(frozen=True)
class ValueLearner(Replayed, ReplayHyperparameters, ValueCore):
    """See the module."""

    def check(self, spec: GameSpec, num_envs: int) -> str | None:
        """See `ludus.core.algorithm.Algorithm.check`."""
        return super().check(spec, num_envs) or misfit_replay(self, num_envs)

    def update(self, learner: Learner, rollout: Rollout, *, key: Key[Array, ""]) -> tuple[Learner, Metrics]:
        """Remember the rollout, then learn from what is remembered."""
        learner, seen = self.remember(learner, rollout)
        spec: GameSpec = learner.shared["spec"].spec
        state = (learner.shared["units"], learner.shared["updates"])
        step = lambda state, sample, progress, key: self._gradient_step(spec, state[0], state[1], sample, progress)
        state, replay, metrics = self.practise(
            state, learner.per_env, seen >= self.warm_up, rollout.progress, step, key
        )
        shared = {"spec": learner.shared["spec"], "units": state[0], "updates": state[1], "progress": rollout.progress}
        return Learner(shared, replay), metrics

    def _gradient_step(
        self, spec: GameSpec, units: dict[str, Unit], updates: Int[Array, ""], sample: Sample, progress: Array
    ) -> tuple[tuple, Array, Metrics]:
        metrics: Metrics = {}
        errors, new = [], {}
        rate = self.learning_rate * (1.0 - progress if self.anneal else 1.0)
        copy = (updates + 1) % self.target_every == 0
        for name, groups in self.units(spec).items():
            unit = units[name]
            aim = lambda newest, u=unit, g=groups: targets(self, newest, u.target, sample.rollout, spec, g)
            slope, error, own = gradients(self, unit.models, sample, spec, groups, aim)
            step, optimiser = self.optimiser().update(slope, unit.optimiser)
            models = jax.tree.map(lambda p, u: p - rate * u, unit.models, step)
            moved = jax.tree.map(lambda t, m: jnp.where(copy, t + self.target_rate * (m - t), t), unit.target, models)
            new[name] = Unit(models, moved, optimiser)
            errors.append(error)
            metrics.update({f"{name}/{k}": x for k, x in own.items()})
        return (new, updates + 1), sum(errors[1:], errors[0]), metrics
