"""A3C (Mnih et al. 2016): workers compute gradients at their own copy of the parameters, and apply them to the shared
ones, whatever became of those meanwhile; the optimiser's statistics are shared too."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import jax
from jaxtyping import Array, Key

from ludus.algorithms.policy_gradient.a2c import A2C
from ludus.algorithms.policy_gradient.models import GroupLearner, Models
from ludus.core.algorithm import Learner, Metrics
from ludus.core.rollout import Rollout


@dataclass(frozen=True)
class A3C(A2C):
    """`update` is A2C's; `gradients` and `apply` are its halves, for runtimes whose workers do not wait."""

    def gradients(self, learner: Learner, rollout: Rollout, *, key: Key[Array, ""]) -> tuple[Learner, Metrics]:
        """A learner like this one that holds gradients in the place of models."""
        own = {f.name: getattr(self, f.name) for f in fields(A2C)}
        return _Gradients(**own).update(learner, rollout, key=key)

    def apply(self, learner: Learner, found: Learner, progress: Array) -> Learner:
        """The shared learner after one worker's gradients; experience of its own (`per_env`) stays the worker's."""

        def group(old: GroupLearner, new: GroupLearner) -> GroupLearner:
            models, optimiser = self.descend(old.models, old.optimiser, new.models, progress)
            return GroupLearner(models, optimiser, new.normaliser)

        each: Any = jax.vmap(group) if self.parameters == "independent" else group
        old, new = learner.shared["groups"], found.shared["groups"]
        groups = {name: each(old[name], new[name]) for name in old}
        return Learner({**learner.shared, "groups": groups}, found.per_env)


class _Gradients(A2C):
    """A2C that goes nowhere: what would be taken as a step is kept."""

    def descend(self, models: Models, optimiser: Any, gradients: Models, progress: Array) -> tuple[Models, Any]:
        """The gradients themselves."""
        return gradients, optimiser
