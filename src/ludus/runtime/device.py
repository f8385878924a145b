"""The device runtime: one jitted program plays and learns; environments, or seeds, are spread over devices."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Key

from ludus.core.algorithm import Algorithm, Learner, Remembers
from ludus.core.errors import UsageError
from ludus.core.game import Environment
from ludus.core.policy import Policy
from ludus.core.sharding import ENV_AXIS
from ludus.core.spec import GameSpec
from ludus.learning.replay import by_env
from ludus.runtime.cast import Cast, Matches, Opposition
from ludus.runtime.finite import CLEAN, first_bad
from ludus.runtime.rollout import Actors, Episodes, Policies, collect, init_actors
from ludus.runtime.schedule import Schedule
from ludus.runtime.setup import compiler_options

SEED_AXIS = "seed"


class TrainState(eqx.Module):
    """The whole state of training: who resumes from it continues bit for bit. Arrays lead with a seed axis."""

    learner: Learner
    actors: Actors
    key: Key[Array, "..."]
    iteration: Int[Array, "..."]


class Report(eqx.Module):
    """What a call of the program says of its iterations; arrays lead with a seed axis."""

    episodes: Episodes
    metrics: dict[str, Float[Array, "..."]]
    bad: dict[str, Int[Array, "..."]]


def make_room(
    algorithm: Algorithm, learner: Learner, env: Environment, policies: Policies, actors: Actors, num_envs: int
) -> Learner:
    """Let an algorithm that keeps experience make room for it."""
    if not isinstance(algorithm, Remembers):
        return learner
    rollout = jax.eval_shape(lambda a: by_env(collect(env, policies, a, algorithm.rollout_length)[1]), actors)
    segment = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), rollout)
    return algorithm.make_room(learner, segment, num_envs)


@dataclass(frozen=True)
class Program(Schedule):
    """One algorithm learning one game: `init`, then the compiled program again and again.

    A learner that plays only some of a game's teams meets others: states then come with an `Opposition`.
    """

    algorithm: Algorithm
    env: Environment
    num_envs: int
    steps: int
    seeds: int = 1
    devices: int = 1
    on_nan: Literal["stop", "skip"] = "stop"
    learns: tuple[str, ...] = ()  # the groups that the learner may play; empty: all

    steps_a_call = 8192

    def __post_init__(self) -> None:
        if self.num_envs < 1 or self.seeds < 1 or self.steps < 1:
            raise UsageError("steps, num_envs and seeds must be at least 1")
        if self.num_envs % self.env_devices:
            raise UsageError(f"{self.num_envs} environments do not divide over {self.env_devices} devices")
        if self.calls * self.iterations_per_call > jnp.iinfo(jnp.int32).max:
            raise UsageError(f"{self.steps} steps are more iterations than the counter holds; take at most 2^31")
        if not 1 <= self.devices <= len(jax.devices()):
            raise UsageError(f"there are {len(jax.devices())} devices here, not {self.devices} devices")
        if self.env_devices > 1 and not getattr(self.algorithm, "splits", True):
            name = type(self.algorithm).__name__
            raise UsageError(
                f"{name} learns from one transition after the other, so its environments cannot be split over "
                f"{self.env_devices} devices; use one, or as many as divide the {self.seeds} seeds"
            )
        problem = self.algorithm.check(self.spec, self.num_envs // self.env_devices)
        if problem:
            raise UsageError(problem)

    @property
    def spec(self) -> GameSpec:
        """The game as the learner sees it."""
        return self.env.spec.restrict(self.learns) if self.learns else self.env.spec

    def policies_of(self, learner: Learner, frozen: dict[str, Any], matches: Matches | None) -> Policies:
        """Who plays while one seed learns."""
        own = self.algorithm.policy(learner)
        return own if matches is None else Cast(own, frozen, matches, self.env.spec)

    @property
    def seed_devices(self) -> int:
        """Devices that split the seeds; the rest split each seed's environments."""
        return math.gcd(self.seeds, self.devices)

    @property
    def env_devices(self) -> int:
        """Devices that split the environments of each seed."""
        return self.devices // self.seed_devices

    @cached_property
    def mesh(self) -> Mesh:
        """Devices by seed and environment."""
        devices = np.array(jax.devices()[: self.devices]).reshape(self.seed_devices, self.env_devices)
        return Mesh(devices, (SEED_AXIS, ENV_AXIS))

    def _spread(self, tree: Any, spec: P) -> Any:
        return jax.tree.map(lambda _: spec, tree)

    def _opposition_specs(self, against: Opposition | None) -> Any:
        if against is None:
            return None
        return Opposition(self._spread(against.frozen, P()), self._spread(against.matches, P(SEED_AXIS)))

    def _specs(self, state: TrainState) -> Any:
        both: Any = P(SEED_AXIS, ENV_AXIS)
        seed: Any = P(SEED_AXIS)
        learner = Learner(self._spread(state.learner.shared, seed), self._spread(state.learner.per_env, both))
        return TrainState(learner, self._spread(state.actors, both), seed, seed)

    def shardings(self, state: TrainState) -> Any:
        """Where each array of a state lives."""
        specs = self._specs(state)
        return jax.tree.map(lambda s: NamedSharding(self.mesh, s), specs, is_leaf=lambda x: isinstance(x, P))

    def place(self, state: TrainState) -> TrainState:
        """Put a state, for example a restored one, onto the devices."""
        return jax.device_put(state, self.shardings(state))

    def _fresh(self, key: Key[Array, ""], against: Opposition | None = None) -> TrainState:
        """The state of one seed before the first iteration."""
        key_learner, key_env = jax.random.split(key, 3)[:2]
        learner = self.algorithm.init(self.spec, self.num_envs, key=key_learner)
        keys = jax.random.split(key_env, self.num_envs)
        policies = self._playing(learner, against)
        actors = init_actors(self.env, policies, keys)
        learner = make_room(self.algorithm, learner, self.env, policies, actors, self.num_envs)
        return self._begun(learner, key, against)

    def _playing(self, learner: Learner, against: Opposition | None) -> Policies:
        if against is None:
            return self.policies_of(learner, {}, None)
        return self.policies_of(learner, against.frozen, against.matches)

    def _begun(self, learner: Learner, key: Key[Array, ""], against: Opposition | None) -> TrainState:
        """A learner at the beginning of its episodes."""
        _, key_env, key_loop = jax.random.split(key, 3)
        keys = jax.random.split(key_env, self.num_envs)
        actors = init_actors(self.env, self._playing(learner, against), keys)
        return TrainState(learner, actors, key_loop, jnp.asarray(0, jnp.int32))

    @cached_property
    def fresh(self) -> Any:
        """`fresh(keys, opposition)`: states of learners that know nothing, one for each key."""
        axes = lambda against: None if against is None else Opposition(None, 0)  # type: ignore[arg-type]
        one = lambda keys, against: jax.vmap(self._fresh, in_axes=(0, axes(against)))(keys, against)
        return jax.jit(one, compiler_options=compiler_options(once=True))

    @cached_property
    def begin(self) -> Any:
        """`begin(learners, keys, opposition)`: states of given learners, with new episodes."""
        axes = lambda against: None if against is None else Opposition(None, 0)  # type: ignore[arg-type]
        one = lambda learner, keys, against: jax.vmap(self._begun, in_axes=(0, 0, axes(against)))(
            learner, keys, against
        )
        return jax.jit(one, compiler_options=compiler_options(once=True))

    def init(self, seed: int) -> TrainState:
        """The states of seeds `seed`, `seed + 1`, …; each depends on its own seed alone.

        Raises `UsageError` where the states, replays included, do not fit into memory.
        """
        self.check_memory()
        keys = jax.vmap(jax.random.key)(jnp.arange(seed, seed + self.seeds))
        fresh = jax.jit(jax.vmap(self._fresh), compiler_options=compiler_options(once=True))
        return self.place(fresh(keys))

    @cached_property
    def shapes(self) -> TrainState:
        """See `Schedule.shapes`."""
        found: TrainState = jax.eval_shape(jax.vmap(self._fresh), jax.random.split(jax.random.key(0), self.seeds))
        return found

    def _iterate(self, state: TrainState, against: Opposition | None) -> tuple[TrainState, Report]:
        """Rollout, then update: one seed, this device's environments."""
        key_next, key_update = jax.random.split(state.key)
        progress = state.iteration / (self.calls * self.iterations_per_call)
        if against is not None:
            begin, end = against.matches.progress
            progress = begin + (end - begin) * progress
        actors, rollout, episodes = collect(
            self.env,
            self._playing(state.learner, against),
            state.actors,
            self.algorithm.rollout_length,
            progress=progress,
            skip=self.on_nan == "skip",
            keep_memories=getattr(self.algorithm, "wants_memories", False),
        )
        algorithm: Any = self.algorithm
        if against is not None and against.matches.settings:
            algorithm = replace(algorithm, **against.matches.settings)
        learner, metrics = algorithm.update(state.learner, rollout, key=key_update)
        bad = first_bad(rollout, self.num_envs) if self.on_nan == "stop" else {}
        state = TrainState(learner, actors, key_next, state.iteration + 1)
        return state, Report(episodes.total(), metrics, bad)

    def _call(self, state: TrainState, against: Opposition | None) -> tuple[TrainState, Report]:
        """Several iterations of one seed."""
        iterate = lambda state, _: self._iterate(state, against)
        state, report = jax.lax.scan(iterate, state, None, self.iterations_per_call)
        begin = jnp.arange(self.iterations_per_call, dtype=jnp.int32) * self.steps_per_iteration
        return state, Report(
            jax.tree.map(lambda x: x.sum(0), report.episodes),
            jax.tree.map(lambda x: x.mean(0), report.metrics),
            jax.tree.map(lambda x: jnp.where(x == CLEAN, CLEAN, x + begin).min(0), report.bad),
        )

    def _call_seeds(self, state: TrainState, against: Opposition | None) -> tuple[TrainState, Report]:
        """This device's seeds: one after another on a host core, where small matrices gain nothing from batching;
        side by side on an accelerator."""

        def call(one: tuple[TrainState, Matches | None]) -> tuple[TrainState, Report]:
            met = None if against is None or one[1] is None else Opposition(against.frozen, one[1])
            return self._call(one[0], met)

        both = (state, None if against is None else against.matches)
        if self.seeds == self.seed_devices:
            return jax.tree.map(lambda x: x[None], call(jax.tree.map(lambda x: x[0], both)))
        return jax.lax.map(call, both) if jax.default_backend() == "cpu" else jax.vmap(call)(both)

    @cached_property
    def _program(self) -> Any:
        def whole(state: TrainState, against: Opposition | None) -> tuple[TrainState, Report]:
            specs = self._specs(state)
            return jax.shard_map(
                self._call_seeds,
                mesh=self.mesh,
                in_specs=(specs, self._opposition_specs(against)),
                out_specs=(specs, P(SEED_AXIS)),
                check_vma=False,
            )(state, against)

        return jax.jit(whole, donate_argnums=0)

    def compile(self, state: TrainState, against: Opposition | None = None) -> Any:
        """Compile ahead of the first call; returns the compiled program for states (and opponents) like these."""
        program = self._program.lower(state, against).compile(compiler_options())
        return lambda state, against=None: program(state, against)

    def policies(self, state: TrainState, seed: int = 0) -> dict[str, Policy]:
        """What one seed, by its index, has learned to play: what it acts with, or what it settles on."""
        learner = jax.tree.map(lambda x: x[seed], Learner(state.learner.shared, ()))
        return settled(self.algorithm, learner)


def settled(algorithm: Algorithm, learner: Learner) -> dict[str, Policy]:
    """The policies that a learner stands for, which for some are not those that it learns with."""
    found: dict[str, Policy] = getattr(algorithm, "settled", algorithm.policy)(learner)
    return found
