"""What programs share whose learner is not part of the program that plays: one seed at a time."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from ludus.core.algorithm import Learner, Remembers
from ludus.core.host import HostEnvironment
from ludus.core.policy import Policy
from ludus.core.rollout import GroupRollout, Moment, Rollout
from ludus.core.spaces import Discrete
from ludus.core.spec import GameSpec, GroupSpec
from ludus.learning.replay import by_env
from ludus.runtime.cast import Opposition
from ludus.runtime.device import TrainState, make_room, settled
from ludus.runtime.rollout import init_actors, players
from ludus.runtime.schedule import Schedule
from ludus.runtime.setup import compiler_options


class OneSeed(Schedule):
    """Fields are those of a program beside it."""

    env: Any
    learns: tuple[str, ...] = ()  # the groups that the learner may play; empty: all

    @property
    def spec(self) -> GameSpec:
        """The game as the learner sees it."""
        whole: GameSpec = self.env.spec
        return whole.restrict(self.learns) if self.learns else whole

    def _fresh(self, key: Key[Array, ""]) -> Learner:
        learner = self.algorithm.init(self.spec, self.num_envs, key=jax.random.split(key, 3)[0])
        return with_room(self.algorithm, learner, self.env, self.spec, self.num_envs)

    def fresh(self, keys: Key[Array, " seed"], against: Opposition | None = None) -> TrainState:
        """The state of a learner that knows nothing."""
        fresh = jax.jit(jax.vmap(self._fresh), compiler_options=compiler_options(once=True))
        return self.begin(fresh(keys), keys, against)

    def begin(self, learner: Learner, keys: Key[Array, " seed"], against: Opposition | None = None) -> TrainState:
        """The state of a given learner, with new episodes."""
        _, key_env, loop = jax.random.split(keys[0], 3)
        none: Int[Array, " seed"] = jnp.zeros(1, jnp.int32)
        return TrainState(learner, self.lives(key_env), loop[None], none)

    def lives(self, key: Key[Array, ""]) -> Any:
        """What of environments is part of the state: here, nothing."""
        return ()

    def init(self, seed: int) -> TrainState:
        """The state of a seed. Raises `UsageError` where it does not fit into memory."""
        self.check_memory()
        return self.fresh(jax.random.key(seed)[None])

    def place(self, state: TrainState) -> TrainState:
        """Put a state, for example a restored one, where it is needed: updates do."""
        return state

    @cached_property
    def shapes(self) -> TrainState:
        """See `Schedule.shapes`."""
        whole = lambda keys: self.begin(jax.vmap(self._fresh)(keys), keys)
        found: TrainState = jax.eval_shape(whole, jax.random.key(0)[None])
        return found

    def policies(self, state: TrainState, seed: int = 0) -> dict[str, Policy]:
        """What was learned to play: what acts, or what it settles on."""
        learner = self.fetch(state).learner
        return settled(self.algorithm, jax.tree.map(lambda x: x[seed], Learner(learner.shared, ())))


def with_room(algorithm: Any, learner: Learner, env: Any, spec: GameSpec, num_envs: int) -> Learner:
    """Let an algorithm that keeps experience make room for that of `num_envs` environments."""
    if not isinstance(algorithm, Remembers):
        return learner
    method: Any = algorithm
    policies = method.policy(learner)
    if not isinstance(env, HostEnvironment):
        actors = init_actors(env, policies, jax.random.split(jax.random.key(0), num_envs))
        return make_room(method, learner, env, policies, actors, num_envs)
    segment = jax.eval_shape(by_env, template(spec, policies, method.rollout_length))
    segment = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), segment)
    found: Learner = method.make_room(learner, segment, num_envs)
    return found


def template(spec: GameSpec, policies: dict[str, Any], length: int) -> Rollout:
    """The shapes of one environment's rollout, for learners that make room for experience."""

    def moment(lead: tuple[int, ...], g: GroupSpec) -> Moment:
        choices = g.action.n if g.masked and isinstance(g.action, Discrete) else None
        return Moment(
            jnp.zeros((*lead, g.slots, *g.observation.shape), jnp.float32),
            None if choices is None else jnp.ones((*lead, g.slots, choices), bool),
            jnp.zeros((*lead, g.size), bool),
            jnp.zeros((*lead, g.slots), jnp.int32) if g.slots < g.size else None,
            None if spec.state is None else jnp.zeros((*lead, *spec.state.shape), jnp.float32),
        )

    def group(g: GroupSpec) -> GroupRollout:
        now, after = moment((length, 1), g), moment((1,), g)
        memory = players(policies).memory(g, 1)
        mine = memory if after.seat is None else jax.tree.map(lambda x: x[:, :1], memory)
        act = policies[g.name].act
        decision = act(after.observation, after.legal, mine, key=jax.random.key(0), explore=True, agent=after.seat)
        timed = lambda x: jnp.zeros((length, *x.shape), x.dtype)
        return GroupRollout(
            observation=now.observation,
            legal=now.legal,
            acting=now.acting,
            seat=now.seat,
            action=timed(decision.action),
            log_prob=timed(decision.log_prob),
            reward=jnp.zeros((length, 1, g.size)),
            memory=memory,
            next=after,
            last=now if spec.truncates else None,
            extras=jax.tree.map(timed, decision.extras),
        )

    def whole() -> Rollout:
        flag = jnp.zeros((length, 1), bool)
        return Rollout(
            groups={g.name: group(g) for g in spec.groups},
            state=None if spec.state is None else jnp.zeros((length, 1, *spec.state.shape), jnp.float32),
            start=flag,
            terminated=flag,
            truncated=flag,
            last_time=jnp.zeros((length, 1), jnp.int32) if spec.truncates else None,
            progress=jnp.zeros(()),
        )

    found: Rollout = jax.eval_shape(whole)
    return found
