"""What all tabular learners share: tables for each agent, schedules, and transitions taken one after the other.

An agent's transition leads from one of its acting steps to the next, with the reward in between, or to the end of the
episode. Transitions of a rollout are learned from in the order of time, then environment, each seeing the tables that
the one before has left; with one environment and rollouts of one step that is the textbook's online learner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ludus.algorithms.tabular.transitions import Pending, Steps, Transition, advance, steps, update_legal
from ludus.core.algorithm import Known, Learner, Metrics
from ludus.core.policy import Policy
from ludus.core.rollout import Rollout
from ludus.core.spaces import Discrete
from ludus.core.spec import GameSpec, GroupSpec
from ludus.networks.build import architecture
from ludus.networks.tabular import TabularPolicy

Tables = Any


@dataclass(frozen=True)
class Tabular:
    """Fields are flags of the command line, with these texts as help."""

    learning_rate: float = 0.1
    """α of the update; the first one where it falls."""
    rate: Literal["constant", "linear", "exponential", "visits"] = "constant"
    """How α falls: to `final_rate` over the planned steps, or as 1/n with the visits of an entry."""
    final_rate: float = 0.01
    """α at the end of a linear or exponential schedule."""
    explore: float = 1.0
    """ε at the beginning (or the Boltzmann temperature)."""
    final_explore: float = 0.05
    """ε (or the temperature) at the end."""
    explore_share: float = 0.5
    """The share of the planned steps over which ε falls linearly; 0 keeps `final_explore` from the start."""
    exploration: Literal["epsilon", "boltzmann"] = "epsilon"
    """Uniform with probability ε, or a softmax of values."""
    discount: float = 0.99
    """γ per acting step."""
    initial: float = 0.0
    """What every entry starts at."""
    rollout_length: int = 1
    """Steps of every environment between two updates of the behaviour."""

    joint = False  # whether entries are for joint actions
    splits = False  # tables see one transition after the other: environments stay on one device

    def check(self, spec: GameSpec, num_envs: int) -> str | None:
        """See `ludus.core.algorithm.Algorithm.check`."""
        name = type(self).__name__
        for group in spec.groups:
            if not isinstance(group.action, Discrete):
                return f"{name} keeps a table and needs discrete actions; ppo learns continuous ones"
            if not group.one_hot:
                return (
                    f"{name} keeps a table and needs observations that are one-hots of what an agent knows, which "
                    f"{spec.name} does not give; spiel games do with --env.observe index, ppo needs none"
                )
        if self.joint and (spec.turns != "simultaneous" or any(g.slots != g.size for g in spec.groups)):
            return f"{name} learns joint actions and needs a simultaneous game; q-learning fits {spec.name}"
        if self.joint and len({g.observation.shape for g in spec.groups}) > 1:
            return f"{name} needs all agents to see the same states, which those of {spec.name} do not"
        if self.joint and spec.num_agents != 2:
            return f"{name} is for two players, and {spec.name} has {spec.num_agents}; q-learning learns any number"
        return None

    def init(self, spec: GameSpec, num_envs: int, *, key: Key[Array, ""]) -> Learner:
        """Fresh tables."""
        agents = spec.num_agents
        states = max(g.observation.shape[0] for g in spec.groups)
        actions = max(g.action.n for g in spec.groups)  # type: ignore[union-attr]
        shape = (num_envs, agents)
        integer = lambda: jnp.zeros(shape, jnp.int32)
        pending = Pending(integer(), integer(), jnp.zeros(shape), jnp.zeros(shape, bool))
        legal = jnp.concatenate(
            [jnp.broadcast_to(jnp.arange(actions) < g.action.n, (g.size, states, actions)) for g in spec.groups]  # type: ignore[union-attr]
        )
        shared = {
            "spec": Known(spec),
            "tables": self.tables(legal),
            "visits": jnp.zeros((agents, states, actions)),
            "legal": legal,
            "progress": jnp.zeros(()),
        }
        return Learner(shared, pending)

    def policy(self, learner: Learner) -> dict[str, Policy]:
        """Tables of probabilities for each group."""
        spec: GameSpec = learner.shared["spec"].spec
        values, play = self.shown(learner.shared["tables"], learner.shared["legal"])
        behaviour = self._explore(values, play, learner.shared["legal"], learner.shared["progress"])
        policies: dict[str, Policy] = {}
        first = 0
        for group in spec.groups:
            own = (slice(first, first + group.size), slice(0, group.observation.shape[0]), slice(0, group.action.n))  # type: ignore[union-attr]
            policies[group.name] = TabularPolicy(play[own], behaviour[own])
            first += group.size
        return policies

    def architecture(self, group: GroupSpec) -> dict[str, Any]:
        """What restores a stored policy of a group."""
        return architecture(group, kind="tabular")

    def _explore(self, values: Array, play: Array, legal: Array, progress: Array) -> Array:
        share = jnp.minimum(progress / self.explore_share, 1.0) if self.explore_share > 0 else 1.0
        amount = self.explore + (self.final_explore - self.explore) * share
        if self.exploration == "boltzmann":
            scores = jnp.where(legal, values / jnp.maximum(amount, 1e-6), jnp.finfo(values.dtype).min)
            return jax.nn.softmax(scores)
        return (1 - amount) * play + amount * legal / legal.sum(-1, keepdims=True)

    def update(self, learner: Learner, rollout: Rollout, *, key: Key[Array, ""]) -> tuple[Learner, Metrics]:
        """Learn from every transition of the rollout that is complete."""
        spec: GameSpec = learner.shared["spec"].spec
        seen = steps(spec, rollout)
        legal = update_legal(learner.shared["legal"], seen)
        rate = self._rate(rollout.progress)

        def moment(carry: tuple, step: Steps) -> tuple[tuple, Array]:
            tables, visits, pending = carry
            pending, transitions = advance(pending, step)

            def one(carry: tuple, transition: Transition) -> tuple[tuple, Array]:
                tables, visits = carry
                return self._learn(tables, visits, legal, transition, rate)

            (tables, visits), errors = jax.lax.scan(one, (tables, visits), transitions)
            return (tables, visits, pending), errors.sum()

        carry = (learner.shared["tables"], learner.shared["visits"], learner.per_env)
        (tables, visits, pending), errors = jax.lax.scan(moment, carry, seen)
        shared = {**learner.shared, "tables": tables, "visits": visits, "legal": legal, "progress": rollout.progress}
        count = jnp.maximum(seen.acting.sum(), 1)
        return Learner(shared, pending), {f"{spec.groups[0].name}/absolute_error": errors.sum() / count}

    def _rate(self, progress: Array) -> Array:
        if self.rate == "linear":
            return self.learning_rate + (self.final_rate - self.learning_rate) * progress
        if self.rate == "exponential":
            return self.learning_rate * (self.final_rate / self.learning_rate) ** progress
        return jnp.asarray(self.learning_rate)

    def _learn(self, tables: Tables, visits: Array, legal: Array, t: Transition, rate: Array) -> tuple[tuple, Array]:
        """One transition of one environment."""
        agents = jnp.arange(t.state.shape[0])
        visits = visits.at[agents, t.state, t.action].add(t.ready.astype(visits.dtype))
        if self.rate == "visits":
            rates = 1.0 / jnp.maximum(visits[agents, t.state, t.action], 1.0)
        else:
            rates = jnp.broadcast_to(rate, t.state.shape)
        tables, error = self.learn(tables, t, jnp.where(t.ready, rates, 0.0), legal)
        return (tables, visits), jnp.abs(jnp.where(t.ready, error, 0.0)).sum()

    # What a method says.

    def tables(self, legal: Bool[Array, "agent state action"]) -> Tables:
        """Fresh tables."""
        raise NotImplementedError

    def shown(self, tables: Tables, legal: Bool[Array, "agent state action"]) -> tuple[Array, Array]:
        """Each agent's action values, and what it plays: both `[agent, state, action]`."""
        raise NotImplementedError

    def learn(self, tables: Tables, t: Transition, rate: Float[Array, " agent"], legal: Array) -> tuple[Tables, Array]:
        """One update with these step sizes (0 where there is nothing to learn), and each agent's error before it."""
        raise NotImplementedError


def greedy(values: Float[Array, "... action"], legal: Bool[Array, "... action"]) -> Float[Array, "... action"]:
    """All of the best legal actions alike."""
    masked = jnp.where(legal, values, jnp.finfo(values.dtype).min)
    best = (masked >= masked.max(-1, keepdims=True)) & legal
    return best / best.sum(-1, keepdims=True)
