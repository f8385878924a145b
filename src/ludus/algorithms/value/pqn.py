"""PQN (Gallici et al. 2025): Q-learning without replay or target networks, on λ-returns of parallel rollouts.

Layer normalisation takes the place of target networks: it belongs to the network (`network.layer_norm`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ludus.algorithms.value.core import Unit, ValueCore
from ludus.algorithms.value.objective import Targets, gradients, look, targets
from ludus.core.algorithm import Learner, Metrics
from ludus.core.rollout import Rollout
from ludus.core.spec import GameSpec, GroupSpec
from ludus.learning.replay import Sample, by_env, by_time
from ludus.networks.mixers import Mixer, Sum
from ludus.networks.torso import Network


@dataclass(frozen=True)
class PQN(ValueCore):
    """Every agent learns its own values; several epochs over each rollout."""

    trace: float = 0.65
    """λ of the returns that values are fitted to."""
    rollout_length: int = 32
    """Steps of every environment that one update consumes."""
    epochs: int = 2
    """Passes over each rollout."""
    minibatches: int = 4
    """Gradient steps of each pass, on whole sequences of some environments."""
    network: Network = field(default_factory=lambda: Network(hidden=(128, 128), activation="relu", layer_norm=True))
    """The action-value network."""

    def check(self, spec: GameSpec, num_envs: int) -> str | None:
        """See `ludus.core.algorithm.Algorithm.check`."""
        if num_envs % self.minibatches:
            fits = max(m for m in range(1, self.minibatches + 1) if num_envs % m == 0)
            return f"{self.minibatches} minibatches do not divide {num_envs} environments per device; {fits} would"
        return super().check(spec, num_envs)

    def update(self, learner: Learner, rollout: Rollout, *, key: Key[Array, ""]) -> tuple[Learner, Metrics]:
        """Targets once, from the values of before; then gradient steps."""
        spec: GameSpec = learner.shared["spec"].spec
        units, metrics = {}, {}
        for i, (name, groups) in enumerate(self.units(spec).items()):
            unit, own_key = learner.shared["units"][name], jax.random.fold_in(key, i)
            units[name], own = self._learn(spec, groups, unit, rollout, own_key)
            metrics.update({f"{name}/{k}": x for k, x in own.items()})
        return Learner({**learner.shared, "units": units, "progress": rollout.progress}), metrics

    def _learn(
        self, spec: GameSpec, groups: list[GroupSpec], unit: Unit, rollout: Rollout, key: Key[Array, ""]
    ) -> tuple[Unit, Metrics]:
        newest = look(self, unit.models, rollout, spec, groups)
        target = targets(self, newest, unit.models, rollout, spec, groups)
        rate = self.learning_rate * (1.0 - rollout.progress if self.anneal else 1.0)
        envs = rollout.start.shape[1]
        whole, backed, known = by_env(rollout), jnp.moveaxis(target.value, 1, 0), jnp.moveaxis(target.valid, 1, 0)

        def gradient_step(carry: tuple, index: Array) -> tuple[tuple, Metrics]:
            models, state = carry
            part: Any = by_time(jax.tree.map(lambda x: x[index], whole))
            here = Targets(jnp.moveaxis(backed[index], 0, 1), jnp.moveaxis(known[index], 0, 1))
            sample = Sample(part, jnp.ones(index.shape), index, index)
            slope, _, metrics = gradients(self, models, sample, spec, groups, lambda newest: here)
            step, state = self.optimiser().update(slope, state)
            return (jax.tree.map(lambda p, u: p - rate * u, models, step), state), metrics

        def epoch(carry: tuple, key: Key[Array, ""]) -> tuple[tuple, Metrics]:
            return jax.lax.scan(gradient_step, carry, jax.random.permutation(key, envs).reshape(self.minibatches, -1))

        carry, metrics = jax.lax.scan(epoch, (unit.models, unit.optimiser), jax.random.split(key, self.epochs))
        return Unit(carry[0], unit.target, carry[1]), jax.tree.map(lambda x: x.mean(), metrics)


@dataclass(frozen=True)
class PQNVDN(PQN):
    """PQN on the sum of a team's values."""

    mixes = True

    def mixer(self, agents: int, state: int, *, key: Key[Array, ""]) -> Mixer:
        """The sum."""
        return Sum()
