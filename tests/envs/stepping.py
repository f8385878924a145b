"""Two ways to play the same moves: an adapter, and the suite it adapts, stepped by hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import jaxmarl
import numpy as np

from ludus.core.game import Environment, TimeStep
from ludus.core.spaces import Discrete
from ludus.envs.registry import make

Rows = dict[str, np.ndarray]


@dataclass(frozen=True)
class Seen:
    """What the suite itself returned at one moment, by group."""

    observation: Rows
    reward: Rows | None  # none at a reset
    done: bool
    legal: Rows
    dead: Rows
    state: np.ndarray | None
    mover: int | None = None


@dataclass(frozen=True)
class Case:
    """A game under our name, and how to play it in its suite."""

    name: str
    suite: Callable[[], Any]
    groups: dict[str, tuple[str, ...]]
    options: dict[str, Any] = field(default_factory=dict)
    steps: int = 60
    view: Callable[[Any], dict[str, np.ndarray]] = dict  # the suite's observations by agent
    shaped: float = 0.0
    tupled: bool = False  # whether the suite takes and pays tuples
    masked: bool = False  # whether the suite says which actions are legal
    seed: int = 0


@dataclass(frozen=True)
class Moment:
    """One moment of an episode as the adapter and as the suite show it."""

    shown: TimeStep
    seen: Seen
    time: int  # steps since the episode began
    dead: Rows  # units that the suite called done


class Player:
    """An adapter with its functions compiled once."""

    def __init__(self, name: str, options: dict[str, Any]):
        self.env: Environment = make(name, **options)
        self.reset, self.step = jax.jit(self.env.reset), jax.jit(self.env.step)


@functools.cache
def _player(name: str, options: tuple[tuple[str, Any], ...]) -> Player:
    return Player(name, dict(options))


def player(name: str, **options: Any) -> Player:
    """The game of that name; the same one for the same options."""
    return _player(name, tuple(sorted(options.items())))


def random_actions(rng: np.random.Generator, player: Player, shown: TimeStep) -> dict[str, jax.Array]:
    """Legal actions for every row, chosen at random."""
    actions = {}
    for group in player.env.spec.groups:
        assert isinstance(group.action, Discrete)
        masks = shown.legal.get(group.name, np.ones((group.slots, group.action.n), bool))
        rows = [rng.choice(np.flatnonzero(mask)) for mask in np.asarray(masks)]
        actions[group.name] = jnp.asarray(rows, jnp.int32)
    return actions


def play(
    player: Player, choose: Callable[[TimeStep], dict[str, Any]], *, seed: int = 0, limit: int = 1000
) -> list[TimeStep]:
    """One episode under a policy: all moments, the first and the last included."""
    key = jax.random.key(seed)
    state, shown = player.reset(key)
    moments = [shown]
    while not moments[-1].done and len(moments) <= limit:
        actions = {name: jnp.asarray(rows, jnp.int32) for name, rows in choose(moments[-1]).items()}
        state, shown = player.step(jax.random.fold_in(key, len(moments)), state, actions)
        moments.append(shown)
    return moments


class ByHand:
    """A JaxMARL suite without any adapter."""

    def __init__(self, case: Case):
        self.case, self.suite = case, case.suite()
        self._reset, self.step = jax.jit(self.suite.reset), jax.jit(self.suite.step_env)
        masks = getattr(self.suite, "get_legal_moves", None) or self.suite.get_avail_actions
        self.masks = jax.jit(masks) if case.masked else None

    def reset(self, key: jax.Array) -> tuple[Any, Any]:
        """The suite's, but for weak types, which would compile its step twice."""
        observation, state = self._reset(key)
        return observation, jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)

    def _rows(self, values: dict[str, Any], dtype: Any = None) -> Rows:
        return {g: np.stack([np.asarray(values[a], dtype) for a in names]) for g, names in self.case.groups.items()}

    def see(self, observation: Any, state: Any, reward: Any, done: Any, info: Any) -> Seen:
        """By group what came by agent."""
        legal = self._rows(self.masks(state), bool) if self.masks else {}
        paid = None
        if reward is not None:
            names = [name for group in self.case.groups.values() for name in group]
            values = dict(zip(names, reward, strict=True)) if self.case.tupled else dict(reward)
            if self.case.shaped:
                bonus = info["shaped_reward"]
                values = {n: np.float32(values[n]) + np.float32(self.case.shaped) * bonus[n] for n in names}
            paid = self._rows(values, np.float32)
        mover = None
        if hasattr(self.suite, "get_legal_moves"):  # in turns, the suite lets all but the mover wait
            (mover,) = np.flatnonzero(~legal["players"][:, -1])
        dead = self._rows(done) if done is not None and not self.case.tupled else {}
        state_row = observation.get("world_state") if isinstance(observation, dict) else None
        over = done is not None and bool(done["__all__"])
        return Seen(self._rows(self.case.view(observation)), paid, over, legal, dead, state_row, mover)

    def moves(self, seen: Seen, actions: dict[str, jax.Array]) -> Any:
        """By agent what comes by group."""
        if seen.mover is not None:
            rows = np.full(len(self.suite.agents), self.suite.num_moves - 1)
            rows[seen.mover] = actions["players"][0]
            return dict(zip(self.suite.agents, rows, strict=True))
        names = [name for group in self.case.groups.values() for name in group]
        flat = [action for group in self.case.groups for action in actions[group]]
        return tuple(flat) if self.case.tupled else dict(zip(names, flat, strict=True))


def side_by_side(case: Case) -> list[Moment]:
    """Play the same random legal actions with the same keys in both; a new episode follows the end of one."""
    adapter, hand = player(case.name, **case.options), ByHand(case)
    rng, root = np.random.default_rng(case.seed), jax.random.key(case.seed)
    moments: list[Moment] = []
    state = suite_state = None
    for i in range(case.steps):
        key = jax.random.fold_in(root, i)
        if not moments or moments[-1].seen.done:
            state, shown = adapter.reset(key)
            observation, suite_state = hand.reset(key)
            moments.append(Moment(shown, hand.see(observation, suite_state, None, None, None), 0, {}))
        last = moments[-1]
        actions = random_actions(rng, adapter, last.shown)
        state, shown = adapter.step(key, state, actions)
        result = hand.step(key, suite_state, hand.moves(last.seen, actions))
        observation, suite_state, reward, done, info = result
        seen = hand.see(observation, suite_state, reward, done, info)
        moments.append(Moment(shown, seen, last.time + 1, seen.dead))
    return moments


def suite(identifier: str, **options: Any) -> Callable[[], Any]:
    """A suite's own constructor, to be called when it is needed."""
    return lambda: jaxmarl.make(identifier, **options)
