"""What all learners of action values share: networks, mixers, policies. Subclasses say how values are mixed.

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
from jaxtyping import Array, Key

from ludus.algorithms.look import state_size
from ludus.algorithms.value.capabilities import misfit
from ludus.algorithms.value.hyperparameters import Hyperparameters
from ludus.algorithms.value.objective import Models
from ludus.core.algorithm import Known, Learner
from ludus.core.policy import Policy
from ludus.core.spec import GameSpec, GroupSpec
from ludus.networks.build import architecture
from ludus.networks.mixers import Mixer
from ludus.networks.policy import IndependentPolicy
from ludus.networks.q_network import QNetwork, QPolicy


class Unit(eqx.Module):
    """All that one unit learns."""

    models: Models
    target: Models
    optimiser: Any


@dataclass(frozen=True)
class ValueCore(Hyperparameters):
    """See the module."""

    mixes = False  # whether a team's values are mixed

    # What only learners from replay choose.
    double = False
    quantiles = 1
    n_step = 1
    burn_in = 0
    huber = 0.0

    def mixer(self, agents: int, state: int, *, key: Key[Array, ""]) -> Mixer | None:
        """The mixer of a team of so many agents, for a state of so many features."""
        return None

    def check(self, spec: GameSpec, num_envs: int) -> str | None:
        """See `ludus.core.algorithm.Algorithm.check`."""
        return misfit(self, spec)

    def units(self, spec: GameSpec) -> dict[str, list[GroupSpec]]:
        """The groups that learn together."""
        if not self.mixes:
            return {group.name: [group] for group in spec.groups}
        teams = dict.fromkeys(group.team for group in spec.groups)
        return {team: [group for group in spec.groups if group.team == team] for team in teams}

    def init(self, spec: GameSpec, num_envs: int, *, key: Key[Array, ""]) -> Learner:
        """Fresh parameters."""
        units = {}
        for i, (name, groups) in enumerate(self.units(spec).items()):
            keys = jax.random.split(jax.random.fold_in(key, i), len(groups) + 1)
            networks = {g.name: self._network(g, k) for g, k in zip(groups, keys[1:], strict=True)}
            mixer = None
            if self.mixes:
                mixer = self.mixer(sum(g.size for g in groups), state_size(spec, groups), key=keys[0])
            models = Models(networks, mixer)
            units[name] = Unit(models, jax.tree.map(jnp.copy, models), self.optimiser().init(models))
        count = jnp.zeros((), jnp.int32)
        return Learner({"spec": Known(spec), "units": units, "updates": count, "progress": jnp.zeros(())})

    def _network(self, group: GroupSpec, key: Key[Array, ""]) -> QNetwork:
        make = lambda k: QNetwork.init(
            group, self.network, dueling=self.dueling, quantiles=self.quantiles, agent_ids=self.agent_ids, key=k
        )
        return jax.vmap(make)(jax.random.split(key, group.size)) if self.parameters == "independent" else make(key)

    def optimiser(self) -> optax.GradientTransformation:
        """Clipping, then Adam's direction."""
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), optax.scale_by_adam(eps=1e-5))

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
        return architecture(
            group,
            self.network,
            kind="values",
            independent=self.parameters == "independent",
            agent_ids=self.agent_ids,
            dueling=self.dueling,
            quantiles=self.quantiles,
            exploration=self.exploration,
        )
