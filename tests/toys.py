"""Small games whose rules fit into a few lines of numpy, so that a test can play them by hand."""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from ludus.core.algorithm import Learner
from ludus.core.game import TimeStep
from ludus.core.policy import Decision
from ludus.core.rollout import Rollout
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec
from ludus.runtime.rollout import Actors, collect, init_actors


class DriftState(eqx.Module):
    place: Float[Array, " agent"]
    birth: Float[Array, ""]  # drawn at reset: it tells episodes apart
    time: Int[Array, ""]
    key: PRNGKeyArray  # games may keep typed keys in their state


class Drift:
    """Agents walk on a line and are paid their place. Action a moves by (a − 1)/4, legal within ±0.9 of the middle.

    Whoever leaves (−1, 1) is out: it acts no more. The episode terminates when agent 0 is out and is truncated after
    `horizon` steps. Observations hold the agent's place, the time, and the episode's number of birth: all there is to
    know. `noise` adds randomness to the steps; `teams` splits the agents into two groups of a team each.
    """

    def __init__(
        self,
        agents: int = 2,
        horizon: int = 5,
        *,
        noise: float = 0.0,
        masked: bool = False,
        teams: bool = False,
        out: bool = True,
    ):
        sizes = {"left": agents - agents // 2, "right": agents // 2} if teams else {"walkers": agents}
        groups = tuple(
            GroupSpec(name, size, Box((3,)), Discrete(3), name if teams else "team", size, masked=masked)
            for name, size in sizes.items()
        )
        self.spec = GameSpec("toy/drift", groups, "general-sum", horizon=horizon, truncates=True)
        self.noise, self.horizon, self.out = noise, horizon, out

    def _by_group(self, rows: Array) -> dict[str, Array]:
        spans = np.cumsum([0, *(g.size for g in self.spec.groups)])
        return {g.name: rows[a:b] for g, a, b in zip(self.spec.groups, spans[:-1], spans[1:], strict=True)}

    def _show(self, state: DriftState, reward: Array) -> TimeStep:
        inside = jnp.abs(state.place) < 1 if self.out else jnp.ones(state.place.shape, bool)
        shown = jnp.stack([state.place, *(jnp.full_like(state.place, x) for x in (state.time, state.birth))], axis=-1)
        legal = jnp.stack([state.place > -0.9, jnp.ones_like(inside), state.place < 0.9], axis=-1)
        terminated = ~inside[0]
        return TimeStep(
            observation=self._by_group(shown),
            legal=self._by_group(legal) if self.spec.groups[0].masked else {},
            acting=self._by_group(inside),
            reward=self._by_group(reward),
            terminated=terminated,
            truncated=(state.time >= self.horizon) & ~terminated,
        )

    def reset(self, key: Key[Array, ""]) -> tuple[DriftState, TimeStep]:
        key_place, key_birth, key_kept = jax.random.split(key, 3)
        place = jax.random.uniform(key_place, (self.spec.num_agents,), minval=-0.9, maxval=0.9).at[0].multiply(0.5)
        state = DriftState(place, jax.random.uniform(key_birth), jnp.asarray(0), key_kept)
        return state, self._show(state, jnp.zeros_like(place))

    def step(self, key: Key[Array, ""], state: DriftState, actions: dict[str, Array]) -> tuple[DriftState, TimeStep]:
        moves = jnp.concatenate([actions[g.name] for g in self.spec.groups])
        inside = jnp.abs(state.place) < 1 if self.out else jnp.ones(state.place.shape, bool)
        drift = self.noise * jax.random.normal(jax.random.fold_in(state.key, state.time), moves.shape)
        place = state.place + jnp.where(inside, (moves - 1) / 4 + drift, 0.0)
        state = DriftState(place, state.birth, state.time + 1, state.key)
        return state, self._show(state, place)


def drift_by_hand(place: np.ndarray, time: int, moves: np.ndarray, horizon: int) -> tuple[np.ndarray, bool, bool]:
    """One step of `Drift` without noise, as its docstring says: places, terminated, truncated."""
    place = np.where(np.abs(place) < 1, place + (moves - 1) / 4, place)
    terminated = abs(place[0]) >= 1
    return place, terminated, time + 1 >= horizon and not terminated


class TurnsState(eqx.Module):
    mover: Int[Array, ""]
    time: Int[Array, ""]
    birth: Float[Array, ""]


class Turns:
    """A sequential game of two: after each move a random player is next; every step pays both players something."""

    def __init__(self, length: int = 6, *, truncates: bool = False):
        group = GroupSpec("players", 2, Box((4,)), Discrete(3), "player", slots=1, masked=True, rivals=True)
        self.spec = GameSpec(
            "toy/turns",
            (group,),
            "general-sum",
            turns="sequential",
            symmetric=True,
            horizon=length,
            truncates=truncates,
        )
        self.length = length

    def _show(self, state: TurnsState, reward: Array) -> TimeStep:
        row = jnp.stack([state.birth, state.time / self.length, jnp.sin(state.birth * 9 + state.time), jnp.ones(())])
        over = state.time >= self.length
        return TimeStep(
            observation={"players": row[None]},
            legal={"players": jnp.stack([jnp.asarray(True), state.birth < 0.5, state.time < 3])[None]},
            acting={"players": (jnp.arange(2) == state.mover) & (~over | self.spec.truncates)},
            reward={"players": reward},
            terminated=over & (not self.spec.truncates),
            truncated=over & self.spec.truncates,
            seat={"players": state.mover[None]},
        )

    def reset(self, key: Key[Array, ""]) -> tuple[TurnsState, TimeStep]:
        key_birth, key_mover = jax.random.split(key)
        mover = jax.random.randint(key_mover, (), 0, 2)
        state = TurnsState(mover, jnp.asarray(0), jax.random.uniform(key_birth))
        return state, self._show(state, jnp.zeros(2))

    def step(self, key: Key[Array, ""], state: TurnsState, actions: dict[str, Array]) -> tuple[TurnsState, TimeStep]:
        mover = jax.random.randint(key, (), 0, 2)
        reward = jnp.where(jnp.arange(2) == state.mover, actions["players"][0] - 1.0, state.birth)
        state = TurnsState(mover, state.time + 1, state.birth)
        return state, self._show(state, reward)


class Spoiled:
    """`Drift` in which one episode, told by its number of birth, pays NaN (or shows it) at one moment."""

    def __init__(self, env: Drift, birth: float, time: int, *, where: str = "reward"):
        self.env, self.spec, self.birth, self.time, self.where = env, env.spec, birth, time, where

    def reset(self, key: Key[Array, ""]) -> tuple[DriftState, TimeStep]:
        return self.env.reset(key)

    def step(self, key: Key[Array, ""], state: DriftState, actions: dict[str, Array]) -> tuple[DriftState, TimeStep]:
        state, step = self.env.step(key, state, actions)
        bad = (state.birth == self.birth) & (state.time == self.time)
        spoil = lambda x: jnp.where(bad, jnp.nan, x)
        return state, eqx.tree_at(
            lambda s: getattr(s, self.where), step, {name: spoil(x) for name, x in getattr(step, self.where).items()}
        )


class Counter(eqx.Module):
    """A policy that remembers how many steps it has played in this episode, and plays that number modulo 3."""

    def initial_memory(self, batch: tuple[int, ...]) -> Array:
        return jnp.zeros((*batch, 1))

    def act(
        self,
        observation: Array,
        legal: Array | None = None,
        memory: Any = (),
        *,
        key: Array | None = None,
        explore: bool = False,
        agent: Array | None = None,
    ) -> Decision:
        action = jnp.mod(memory[..., 0], 3).astype(jnp.int32)
        return Decision(action, jnp.zeros(action.shape), memory + 1)


class Always(eqx.Module):
    """A policy that plays one action."""

    action: int = eqx.field(static=True)

    def initial_memory(self, batch: tuple[int, ...]) -> tuple[()]:
        return ()

    def act(
        self,
        observation: Array,
        legal: Array | None = None,
        memory: Any = (),
        *,
        key: Array | None = None,
        explore: bool = False,
        agent: Array | None = None,
    ) -> Decision:
        action = jnp.full(observation.shape[:-1], self.action, jnp.int32)
        return Decision(action, jnp.zeros(action.shape), ())


def numpy_tree(tree: Any) -> Any:
    """Arrays as numpy's, random keys as their numbers."""
    plain = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return jax.tree.map(lambda x: np.asarray(plain(x)), tree)


def assert_same(a: Any, b: Any) -> None:
    """Two trees hold the same bits."""
    jax.tree.map(np.testing.assert_array_equal, numpy_tree(a), numpy_tree(b))


def assert_close(a: Any, b: Any, tolerance: float) -> None:
    """Two trees differ by no more than `tolerance`, absolute for small and relative for large numbers."""
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
    jax.tree.map(close, numpy_tree(a), numpy_tree(b))


@functools.cache
def play(algorithm: Any, env: Any, envs: int = 6, seed: int = 0) -> tuple[Learner, Rollout]:
    """A learner whose policy is far from uniform, and a rollout of it that begins in the middle of episodes."""
    key = jax.random.key(seed)

    @jax.jit
    def start(key: Array) -> tuple[Learner, Actors]:
        learner = jax.tree.map(_amplify, algorithm.init(env.spec, envs, key=key))
        keys = jax.random.split(jax.random.fold_in(key, 1), envs)
        return learner, init_actors(env, algorithm.policy(learner), keys)

    @jax.jit
    def advance(learner: Learner, actors: Actors) -> tuple[Actors, Rollout]:
        keep = getattr(algorithm, "wants_memories", False)
        return collect(env, algorithm.policy(learner), actors, algorithm.rollout_length, keep_memories=keep)[:2]

    learner, actors = start(key)
    actors, _ = advance(learner, actors)
    return learner, advance(learner, actors)[1]


def _amplify(x: Array) -> Array:
    """Make small weights of a policy's head matter, and fill zeros of memories and biases."""
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim == 0:
        return x
    return x * jnp.where(jnp.abs(x).max() < 0.05, 30.0, 1.0)


class Pull:
    """Everybody acts once, in a box: whoever comes close to `goal` times its side is paid most, and sums matter too.

    With `together`, all are paid alike for bringing the sum of their actions to the goal.
    """

    def __init__(
        self, agents: int = 2, *, goal: float = 0.6, together: bool = False, low: float = -1.0, high: float = 3.0
    ):
        group = GroupSpec("pullers", agents, Box((2,)), Box((1,), low, high), "team", agents)
        self.spec = GameSpec("toy/pull", (group,), "common" if together else "general-sum", horizon=1)
        self.goal, self.together, self.agents = goal, together, agents

    def _show(self, side: Array, reward: Array, over: bool) -> TimeStep:
        shown = jnp.stack([jnp.full(self.agents, side), jnp.arange(self.agents) / self.agents], -1)
        yes = jnp.asarray(over)
        acting = {"pullers": jnp.full(self.agents, not over)}
        return TimeStep({"pullers": shown}, {}, acting, {"pullers": reward}, yes, jnp.asarray(False))

    def reset(self, key: Key[Array, ""]) -> tuple[Array, TimeStep]:
        side = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
        return side, self._show(side, jnp.zeros(self.agents), False)

    def step(self, key: Key[Array, ""], side: Array, actions: dict[str, Array]) -> tuple[Array, TimeStep]:
        moves = actions["pullers"][:, 0]
        reached = jnp.full(self.agents, moves.sum()) if self.together else moves
        return side, self._show(side, -jnp.square(reached - 1 - self.goal * side), True)
