"""The actor–critic core: everything that REINFORCE, A2C, PPO and MAPPO share. Subclasses say their losses.

Parameters are shared by a group's agents or independent, one set each; groups never share. Losses are means over the
steps at which agents act (and whose future is known); with independent parameters each agent has its own mean, its
own optimiser and its own gradient clipping, so that agents cannot influence each other through them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from ludus.algorithms.policy_gradient.batch import Batch
from ludus.algorithms.policy_gradient.capabilities import misfit
from ludus.algorithms.policy_gradient.estimate import prepare
from ludus.algorithms.policy_gradient.hyperparameters import Hyperparameters
from ludus.algorithms.policy_gradient.models import GroupLearner, Models
from ludus.algorithms.view import central_size, view
from ludus.core.algorithm import Known, Learner, Metrics
from ludus.core.policy import Policy
from ludus.core.rollout import Rollout
from ludus.core.sharding import sum_over_shards
from ludus.core.spec import GameSpec, GroupSpec
from ludus.learning.statistics import ValueNormaliser
from ludus.networks.build import architecture
from ludus.networks.policy import IndependentPolicy, NetworkPolicy


@dataclass(frozen=True)
class ActorCritic(Hyperparameters):
    """What all policy-gradient methods do; see the module."""

    # What methods with one gradient step a rollout and a critic leave as it is.
    epochs = 1
    minibatches = 1
    baseline = True
    clip_rho = None
    optimiser = "adam"

    def check(self, spec: GameSpec, num_envs: int) -> str | None:
        """See `ludus.core.algorithm.Algorithm.check`."""
        return misfit(self, spec, num_envs)

    def init(self, spec: GameSpec, num_envs: int, *, key: Key[Array, ""]) -> Learner:
        """Fresh parameters for every group."""
        shared, per_env = {}, {}
        for i, group in enumerate(spec.groups):
            group_key = jax.random.fold_in(key, i)
            make = lambda k, group=group: self._init_group(spec, group, k)
            independent = self.parameters == "independent"
            shared[group.name] = (
                jax.vmap(make)(jax.random.split(group_key, group.size)) if independent else make(group_key)
            )
            agents = (num_envs, group.size)
            per_env[group.name] = shared[group.name].models.critic_memory(agents)
        return Learner({"spec": Known(spec), "groups": shared}, per_env)

    def _init_group(self, spec: GameSpec, group: GroupSpec, key: Key[Array, ""]) -> GroupLearner:
        key_policy, key_critic = jax.random.split(key)
        policy = NetworkPolicy.init(group, self.network, agent_ids=self.agent_ids, key=key_policy)
        shape = (central_size(spec, group),) if self.critic == "central" else group.observation.shape
        agents = group.size if self.agent_ids else 0
        models = Models.init(policy, shape, self.network, agents=agents, share=self.share_torso, key=key_critic)
        return GroupLearner(models, self._optimiser().init(models), ValueNormaliser.fresh())

    def _optimiser(self) -> optax.GradientTransformation:
        scale = {"adam": optax.scale_by_adam(eps=1e-5), "rmsprop": optax.scale_by_rms(decay=0.99, eps=1e-5)}
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), scale[self.optimiser])

    def policy(self, learner: Learner) -> dict[str, Policy]:
        """One policy for each group."""
        independent = self.parameters == "independent"
        spec: GameSpec = learner.shared["spec"].spec
        policies: dict[str, Policy] = {}
        for group in spec.groups:
            policy = learner.shared["groups"][group.name].models.policy
            policies[group.name] = IndependentPolicy(policy, group.size) if independent else policy
        return policies

    def architecture(self, group: GroupSpec) -> dict[str, Any]:
        """What restores a stored policy of a group."""
        independent = self.parameters == "independent"
        return architecture(group, self.network, independent=independent, agent_ids=self.agent_ids)

    def update(self, learner: Learner, rollout: Rollout, *, key: Key[Array, ""]) -> tuple[Learner, Metrics]:
        """One update of every group; groups learn from the same rollout, each for itself."""
        spec: GameSpec = learner.shared["spec"].spec
        shared, per_env, metrics = {}, {}, {}
        for i, group in enumerate(spec.groups):
            own = view(rollout, spec, group, self.critic)
            learn = lambda g, memory, v, k: self._learn(g, memory, v, rollout, k)
            arguments = (learner.shared["groups"][group.name], learner.per_env[group.name], own)
            group_key = jax.random.fold_in(key, i)
            if self.parameters == "independent":
                state, memory, own = arguments
                memory = jax.tree.map(lambda m: jnp.expand_dims(jnp.moveaxis(m, 1, 0), 2), memory)
                state, memory, losses = jax.vmap(learn, in_axes=(0, 0, 0, None))(state, memory, own.split(), group_key)
                memory = jax.tree.map(lambda m: jnp.moveaxis(m.squeeze(2), 0, 1), memory)
                losses = {name: x.mean() for name, x in losses.items()}
            else:
                state, memory, losses = learn(*arguments, group_key)
            shared[group.name], per_env[group.name] = state, memory
            metrics.update({f"{group.name}/{name}": x for name, x in losses.items()})
        return Learner({"spec": learner.shared["spec"], "groups": shared}, per_env), metrics

    def _learn(
        self, learner: GroupLearner, critic_memory: Any, own: Any, rollout: Rollout, key: Key[Array, ""]
    ) -> tuple[GroupLearner, Any, Metrics]:
        """Advantages, then gradient steps over epochs and minibatches."""
        batch, critic_memory, normaliser = prepare(
            self, learner.models, learner.normaliser, critic_memory, own, rollout
        )
        folded, pieces = batch.fold()

        def gradient_step(carry: tuple, index: Array) -> tuple[tuple, Metrics]:
            models, state = carry
            gradients, metrics = self._gradients(models, folded, folded.chunks(index, pieces), normaliser)
            return self.descend(models, state, gradients, rollout.progress), metrics

        def epoch(carry: tuple, epoch_key: Key[Array, ""]) -> tuple[tuple, Any]:
            return jax.lax.scan(gradient_step, carry, batch.shuffle(epoch_key, self.minibatches))

        carry = (learner.models, learner.optimiser)
        carry, metrics = jax.lax.scan(epoch, carry, jax.random.split(key, self.epochs))
        metrics = {name: x.mean() for name, x in metrics.items()}
        return GroupLearner(*carry, normaliser), critic_memory, metrics

    def descend(self, models: Models, optimiser: Any, gradients: Models, progress: Array) -> tuple[Models, Any]:
        """One step of gradient: the new models and optimiser's state."""
        step_size = self.learning_rate * (1.0 - progress if self.anneal else 1.0)
        updates, optimiser = self._optimiser().update(gradients, optimiser)
        return jax.tree.map(lambda p, u: p - step_size * u, models, updates), optimiser

    def _gradients(
        self, models: Models, batch: Batch, chunks: Array, normaliser: ValueNormaliser
    ) -> tuple[Models, Metrics]:
        """Gradients and metrics of one minibatch, over all shards, added up chunk by chunk."""
        index = chunks.reshape(-1)
        weights = batch.weight[:, index] if batch.recurrent else batch.weight[index]
        count = jnp.maximum(sum_over_shards(jnp.sum(weights, dtype=jnp.float32)), 1.0)

        def part(chunk: Array) -> tuple[Models, Metrics]:
            return jax.grad(self._loss, has_aux=True)(models, batch.take(chunk), normaliser, count)

        def add(total: tuple[Models, Metrics], chunk: Array) -> tuple[tuple[Models, Metrics], None]:
            return jax.tree.map(jnp.add, total, part(chunk)), None

        first = part(chunks[0])
        return sum_over_shards(first if len(chunks) == 1 else jax.lax.scan(add, first, chunks[1:])[0])

    def _loss(
        self, models: Models, batch: Batch, normaliser: ValueNormaliser, count: Float[Array, ""]
    ) -> tuple[Array, Metrics]:
        """A chunk's part of the loss of a minibatch with `count` acting steps."""
        distribution, value = models.evaluate(batch)
        log_prob = distribution.log_prob(batch.action)
        policy_loss, extras = self.policy_loss(log_prob, batch)
        value_loss = self.value_loss(value, batch.old_value, normaliser.normalise(batch.target))
        mean = lambda x: jnp.sum(jnp.where(batch.weight, x, 0.0)) / count
        parts = {
            "policy_loss": mean(policy_loss),
            "value_loss": mean(value_loss),
            "entropy": mean(distribution.entropy()),
        }
        loss = parts["policy_loss"] + self.value_weight * parts["value_loss"] - self.entropy_weight * parts["entropy"]
        return loss, {**parts, **{name: mean(x) for name, x in extras.items()}}

    def policy_loss(
        self, log_prob: Float[Array, "time env slot"], batch: Batch
    ) -> tuple[Float[Array, "time env slot"], dict[str, Array]]:
        """Per step, and what else to report: −A log π, the policy gradient."""
        return -batch.advantage * log_prob, {}

    def value_loss(
        self,
        value: Float[Array, "time env slot"],
        old_value: Float[Array, "time env slot"],
        target: Float[Array, "time env slot"],
    ) -> Float[Array, "time env slot"]:
        """Per step: half the squared error."""
        return 0.5 * jnp.square(value - target)

    def knows_next(self, acting: Array) -> Array:
        """Where the critic's value may stand for the future: wherever an agent acts."""
        return acting

    def weigh(self, advantage: Array, rho: Array | None) -> Array:
        """Advantages with the weights of off-policy steps: here, all have the same."""
        return advantage

    def scale_advantages(self, advantage: Array, weight: Array) -> Array:
        """What the policy loss sees of the advantages: here, them."""
        return advantage
