"""COMA (Foerster et al. 2018): counterfactual advantages from a centralised critic, for teams with discrete actions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from ludus.algorithms.joint import action_size, as_vector, own_first
from ludus.algorithms.look import acting, for_agents, legal_actions, unroll
from ludus.algorithms.owners import average, descend
from ludus.algorithms.policy_gradient.capabilities import misfit_coma
from ludus.algorithms.view import Everywhere, View, central_input, central_size, moments, view
from ludus.core.algorithm import Known, Learner, Metrics
from ludus.core.policy import Policy
from ludus.core.rollout import Rollout
from ludus.core.sharding import sum_over_shards
from ludus.core.spaces import Box
from ludus.core.spec import GameSpec, GroupSpec
from ludus.learning.returns import backups
from ludus.networks.build import architecture
from ludus.networks.distributions import Categorical
from ludus.networks.policy import IndependentPolicy, NetworkPolicy
from ludus.networks.q_network import QNetwork
from ludus.networks.torso import Network


class Unit(eqx.Module):
    """All that one group learns."""

    policy: NetworkPolicy
    critic: QNetwork
    target: QNetwork
    policy_optimiser: Any
    critic_optimiser: Any


@dataclass(frozen=True)
class COMA:
    """Each agent's advantage is against the average over its own actions, everybody else's held fixed."""

    learning_rate: float = 5e-4
    """Step size of Adam, for policies and critics."""
    anneal: bool = True
    """Whether the step size falls linearly to zero over the planned steps."""
    discount: float = 0.99
    """Discount factor per acting step."""
    trace: float = 0.8
    """λ of the critics' targets."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus, in place of the paper's floor under probabilities."""
    max_grad_norm: float = 10.0
    """Gradients of a larger global norm are scaled down to it."""
    rollout_length: int = 32
    """Steps of every environment that one update consumes."""
    critic_updates: int = 8
    """Gradient steps of the critics on each rollout, before the one of the policies."""
    target_rate: float = 0.02
    """How far target critics move towards the newest ones at each of those."""
    parameters: Literal["shared", "independent"] = "shared"
    """One policy and critic for the agents of a group, or one for each."""
    agent_ids: bool = False
    """Append a one-hot agent number to policies' observations, so that agents with shared parameters can differ."""
    network: Network = field(default_factory=Network)
    """The policy's network; critics have the same layers, without memory."""

    def check(self, spec: GameSpec, num_envs: int) -> str | None:
        """See `ludus.core.algorithm.Algorithm.check`."""
        return misfit_coma(self, spec)

    def init(self, spec: GameSpec, num_envs: int, *, key: Key[Array, ""]) -> Learner:
        """Fresh parameters for every group."""
        groups, alone = {}, self.parameters == "independent"
        for i, group in enumerate(spec.groups):
            make, own = lambda k, g=group: self._init_unit(spec, g, k), jax.random.fold_in(key, i)
            groups[group.name] = jax.vmap(make)(jax.random.split(own, group.size)) if alone else make(own)
        return Learner({"spec": Known(spec), "groups": groups})

    def _init_unit(self, spec: GameSpec, group: GroupSpec, key: Key[Array, ""]) -> Unit:
        key_policy, key_critic = jax.random.split(key)
        policy = NetworkPolicy.init(group, self.network, agent_ids=self.agent_ids, key=key_policy)
        seen = central_size(spec, group) + sum(g.size * action_size(g.action) for g in spec.groups)
        seen += group.size - action_size(group.action)  # who it is, and not what it does itself
        shape = replace(self.network, memory="none", conv=())
        critic = QNetwork.init(replace(group, observation=Box((seen,))), shape, dueling=False, key=key_critic)
        start = self._optimiser().init
        return Unit(policy, critic, jax.tree.map(jnp.copy, critic), start(policy), start(critic))

    def _optimiser(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), optax.scale_by_adam(eps=1e-5))

    def policy(self, learner: Learner) -> dict[str, Policy]:
        """One policy for each group."""
        alone = self.parameters == "independent"
        made = {g.name: (g, learner.shared["groups"][g.name].policy) for g in learner.shared["spec"].spec.groups}
        return {name: IndependentPolicy(policy, g.size) if alone else policy for name, (g, policy) in made.items()}

    def architecture(self, group: GroupSpec) -> dict[str, Any]:
        """What restores a stored policy of a group."""
        alone = self.parameters == "independent"
        return architecture(group, self.network, independent=alone, agent_ids=self.agent_ids)

    def update(self, learner: Learner, rollout: Rollout, *, key: Key[Array, ""]) -> tuple[Learner, Metrics]:
        """Fit the critics to λ-returns, then follow counterfactual advantages."""
        spec: GameSpec = learner.shared["spec"].spec
        units: dict[str, Unit] = learner.shared["groups"]
        play = {}
        for i, group in enumerate(spec.groups):
            drawn = self._log_probs(units[group.name].policy, spec, group, rollout).map(
                lambda x, k=jax.random.fold_in(key, i): Categorical(x).sample(k)
            )
            did = Everywhere(rollout.groups[group.name].action, drawn.next, drawn.last)
            play[group.name] = did.map(lambda a, g=group: as_vector(g.action, a))
        groups, metrics = {}, {}
        for group in spec.groups:
            groups[group.name], own = self._learn(spec, group, units[group.name], rollout, play)
            metrics.update({f"{group.name}/{name}": x for name, x in own.items()})
        return Learner({"spec": learner.shared["spec"], "groups": groups}), metrics

    def _log_probs(self, policy: NetworkPolicy, spec: GameSpec, group: GroupSpec, rollout: Rollout) -> Everywhere:
        """`[…, agent, action]`."""

        def outputs(policy: NetworkPolicy, own: View) -> Everywhere:
            cores, _ = unroll(policy.torso, own, rollout, own.memory, lambda g: g.observation)
            return cores.map(lambda core: policy.head.linear(policy.torso.after(core)))

        own, alone = view(rollout, spec, group, "local"), self.parameters == "independent"
        found = for_agents(outputs, policy, own, group.size, independent=alone, behind=2)
        legal = legal_actions(rollout, group)
        if legal is None:
            return found.map(jax.nn.log_softmax)
        return found.map(lambda y, mask: Categorical.of(y, mask).log_probs, legal)

    def _values(self, critic: QNetwork, x: Float[Array, "... agent feature"]) -> Float[Array, "... agent action"]:
        """Of each of an agent's own actions, everybody else's as they are."""
        read = lambda c, x: c.read(c.torso.step_core(x, ())[0])[..., 0]
        if self.parameters == "shared":
            return read(critic, x)
        found: Array = jax.vmap(read, in_axes=(0, -2), out_axes=-2)(critic, x)
        return found

    def _learn(
        self, spec: GameSpec, group: GroupSpec, unit: Unit, rollout: Rollout, play: dict[str, Everywhere]
    ) -> tuple[Unit, Metrics]:
        def see(seen: dict[str, Any], *acts: Array) -> Array:
            done = dict(zip(play, acts, strict=True))
            others = own_first(group, done[group.name], done)[..., action_size(group.action) :]
            who = jnp.broadcast_to(jnp.eye(group.size), (*others.shape[:-1], group.size))
            return jnp.concatenate([central_input(spec, group, seen), others, who], -1)

        x, moves, mine = moments(rollout).map(see, *play.values()), acting(rollout, group), play[group.name]
        mates = [g.name for g in spec.groups if g.team == group.team]
        reward = jnp.concatenate([rollout.groups[name].reward for name in mates], -1).mean(-1, keepdims=True)
        reward = jnp.broadcast_to(reward, moves.now.shape)
        value = x.map(lambda x, a: (self._values(unit.target, x) * a).sum(-1, keepdims=True), mine)
        target, valid = backups(reward, value, moves, rollout, discount=self.discount, trace=self.trace)
        target, rate = target[..., 0], self.learning_rate * (1.0 - rollout.progress if self.anneal else 1.0)

        alone = self.parameters == "independent"
        mean = lambda x, valid: average(x, valid, independent=alone)
        step = lambda p, g, state: descend(self._optimiser(), p, g, state, rate, independent=alone)

        def critic_loss(critic: QNetwork) -> tuple[Array, Array]:
            error = (self._values(critic, x.now) * mine.now).sum(-1) - target
            return mean(0.5 * jnp.square(error), valid), mean(jnp.abs(error), valid)

        def critic_step(carry: tuple, _: None) -> tuple[tuple, Array]:
            critic, old, state = carry
            gradient, error = sum_over_shards(jax.grad(critic_loss, has_aux=True)(critic))
            critic, state = step(critic, gradient, state)
            return (critic, jax.tree.map(lambda o, n: o + self.target_rate * (n - o), old, critic), state), error

        carry = (unit.critic, unit.target, unit.critic_optimiser)
        (critic, old, critic_state), error = jax.lax.scan(critic_step, carry, None, self.critic_updates)
        q, action = self._values(critic, x.now), rollout.groups[group.name].action

        def policy_loss(policy: NetworkPolicy) -> tuple[Array, Metrics]:
            log_probs = self._log_probs(policy, spec, group, rollout).now
            advantage = counterfactual_advantage(q, jax.lax.stop_gradient(jnp.exp(log_probs)), action)
            chosen = Categorical(log_probs)
            gain = jax.lax.stop_gradient(advantage) * chosen.log_prob(action)
            entropy = chosen.entropy()
            loss = mean(-gain - self.entropy_weight * entropy, moves.now)
            return loss, {"policy_loss": mean(-gain, moves.now), "entropy": mean(entropy, moves.now)}

        gradient, metrics = sum_over_shards(jax.grad(policy_loss, has_aux=True)(unit.policy))
        policy, policy_state = step(unit.policy, gradient, unit.policy_optimiser)
        return Unit(policy, critic, old, policy_state, critic_state), {**metrics, "absolute_error": error.mean()}


def counterfactual_advantage(
    q: Float[Array, "*batch action"], policy: Float[Array, "*batch action"], action: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Q(s, u) − Σ π(a) Q(s, (u without the agent's own, a)), eq. 4."""
    return jnp.take_along_axis(q, action[..., None], -1)[..., 0] - (policy * q).sum(-1)
