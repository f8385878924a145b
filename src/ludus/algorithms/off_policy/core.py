"""What DDPG, TD3, SAC and MADDPG share. Subclasses say which actions their critics are asked about.

Groups never share parameters. Losses are means over the steps at which agents act; with independent parameters each
agent has its own mean, its own optimiser and its own gradient clipping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from ludus.algorithms.joint import as_vector, critic_size, relaxed
from ludus.algorithms.off_policy.capabilities import misfit
from ludus.algorithms.off_policy.hyperparameters import Hyperparameters
from ludus.algorithms.off_policy.inference import Inferred
from ludus.algorithms.off_policy.models import Networks, Unit
from ludus.algorithms.off_policy.objective import bootstrap, infer, losses
from ludus.algorithms.replayed import Replayed
from ludus.core.algorithm import Known, Learner, Metrics
from ludus.core.policy import Policy
from ludus.core.rollout import Rollout
from ludus.core.spaces import Space
from ludus.core.spec import GameSpec, GroupSpec
from ludus.learning.replay import Sample
from ludus.networks.actor import Actor, ActorNetwork, Ensemble
from ludus.networks.build import architecture
from ludus.networks.critic import Critic
from ludus.networks.distributions import Categorical
from ludus.networks.policy import IndependentPolicy


@dataclass(frozen=True)
class OffPolicyActorCritic(Replayed, Hyperparameters):
    """See the module."""

    # What most methods leave as it is.
    twins = 1
    stochastic = False
    continuous_only = False
    local_teams: tuple[str, ...] = ()
    ensemble = 1
    infer_others = False
    infer_entropy = 0.0
    temperature = 0.0
    learns_temperature = False

    def check(self, spec: GameSpec, num_envs: int) -> str | None:
        """See `ludus.core.algorithm.Algorithm.check`."""
        return misfit(self, spec, num_envs)

    @property
    def independent(self) -> bool:
        """Whether every agent has its own parameters."""
        return self.parameters == "independent"

    def central(self, group: GroupSpec) -> bool:
        """Whether a group's critics see everybody."""
        return self.critic == "central" and not set(group.teams) & set(self.local_teams)

    def choose(self, space: Space, found: Any, key: Key[Array, ""], *, target: bool) -> tuple[Array, Array]:
        """The action that a critic is asked about, as a vector and differentiable, and its log-probability, or 0."""
        if isinstance(found, Categorical):
            return relaxed(found, key), jnp.zeros(found.log_probs.shape[:-1])
        mean = found.mode()
        return as_vector(space, mean), jnp.zeros(mean.shape[:-1])

    def init(self, spec: GameSpec, num_envs: int, *, key: Key[Array, ""]) -> Learner:
        """Fresh parameters for every group; the replay comes with `make_room`."""
        units = {}
        for i, group in enumerate(spec.groups):
            make = lambda k, group=group: self._init_unit(spec, group, k)
            group_key, key_ideas = jax.random.split(jax.random.fold_in(key, i))
            made = jax.vmap(make)(jax.random.split(group_key, group.size)) if self.independent else make(group_key)
            ideas = None
            if self.infer_others:
                ideas = Inferred.init(spec, group, self.network, self.optimiser(), key=key_ideas)
            units[group.name] = Unit(**{**vars(made), "inferred": ideas})
        zero = jnp.zeros(())
        count = jnp.zeros((), jnp.int32)
        return Learner({"spec": Known(spec), "units": units, "updates": count, "seen": zero, "progress": zero})

    def _init_unit(self, spec: GameSpec, group: GroupSpec, key: Key[Array, ""]) -> Unit:
        key_actor, key_critic = jax.random.split(key)
        make = lambda k: ActorNetwork.init(
            group, self.network, stochastic=self.stochastic, agent_ids=self.agent_ids, key=k
        )
        actor = make(key_actor) if self.ensemble == 1 else jax.vmap(make)(jax.random.split(key_actor, self.ensemble))
        size = critic_size(spec, group, central=self.central(group))
        critic = Critic.init(size, self.network, twins=self.twins, key=key_critic)
        networks = Networks(actor, critic)
        optimiser = self.optimiser()
        log_temperature = jnp.log(jnp.asarray(max(self.temperature, 1e-8)))
        return Unit(
            networks,
            jax.tree.map(jnp.copy, networks),
            optimiser.init(actor),
            optimiser.init(critic),
            log_temperature,
            optimiser.init(log_temperature),
            None,
        )

    def optimiser(self) -> optax.GradientTransformation:
        """Of every network: clipping, then Adam's direction."""
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), optax.scale_by_adam(eps=1e-5))

    def policy(self, learner: Learner) -> dict[str, Policy]:
        """Exploring policies, one for each group."""
        spec: GameSpec = learner.shared["spec"].spec
        noise = self.noise + (self.final_noise - self.noise) * learner.shared["progress"]
        random = learner.shared["seen"] < self.warm_up
        policies: dict[str, Policy] = {}
        for group in spec.groups:
            network: ActorNetwork = learner.shared["units"][group.name].networks.actor
            lead: tuple[int, ...] = (group.size,) if self.independent else ()
            if self.ensemble > 1:
                lead = (self.ensemble, *lead)
                network = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), network) if self.independent else network
            wide = lambda x, lead=lead: jnp.broadcast_to(x, lead)
            actor = Actor(network, wide(noise), wide(random), group.action, self.stochastic)
            policy: Any = IndependentPolicy(actor, group.size) if self.independent else actor
            policies[group.name] = Ensemble(policy, self.ensemble) if self.ensemble > 1 else policy
        return policies

    def architecture(self, group: GroupSpec) -> dict[str, Any]:
        """What restores a stored policy of a group."""
        return architecture(
            group,
            self.network,
            kind="actor",
            independent=self.independent,
            agent_ids=self.agent_ids,
            ensemble=self.ensemble,
            stochastic=self.stochastic,
        )

    def update(self, learner: Learner, rollout: Rollout, *, key: Key[Array, ""]) -> tuple[Learner, Metrics]:
        """Remember the rollout, then learn from what is remembered."""
        learner, seen = self.remember(learner, rollout)
        spec: GameSpec = learner.shared["spec"].spec
        units, ideas = infer(self, spec, learner.shared["units"], rollout)
        step = lambda state, sample, progress, key: self._gradient_step(spec, state[0], state[1], sample, progress, key)
        state = (units, learner.shared["updates"])
        enough, progress = seen >= self.warm_up, rollout.progress
        state, replay, metrics = self.practise(state, learner.per_env, enough, progress, step, key)
        shared = {**learner.shared, "units": state[0], "updates": state[1], "seen": seen, "progress": progress}
        return Learner(shared, replay), {**metrics, **ideas}

    def _gradient_step(
        self,
        spec: GameSpec,
        units: dict[str, Unit],
        updates: Int[Array, ""],
        sample: Sample,
        progress: Array,
        key: Key[Array, ""],
    ) -> tuple[tuple, Float[Array, " segment"], Metrics]:
        values = bootstrap(self, spec, units, sample.rollout, jax.random.fold_in(key, len(spec.groups)))
        rate = self.learning_rate * (1.0 - progress if self.anneal else 1.0)
        new, metrics = {}, {}
        for i, group in enumerate(spec.groups):
            own_key = jax.random.fold_in(key, i)
            new[group.name], own = losses(
                self, spec, group, units[group.name], sample.rollout, values[group.name], rate, updates, own_key
            )
            metrics.update({f"{group.name}/{name}": x for name, x in own.items()})
        return (new, updates + 1), jnp.zeros(sample.weight.shape), metrics
