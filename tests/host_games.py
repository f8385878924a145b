"""Games stepped on the host, for tests: toys of the device in another coat, and games that misbehave."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ludus.core.host import HostEnvironment, HostStep
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec, GroupSpec
from ludus.envs.registry import make
from toys import Drift, Turns


class Alike:
    """A game whose episodes all begin alike, and that is stepped with one key."""

    def __init__(self, env: Any):
        self.env, self.spec = env, env.spec

    def reset(self, key: Any) -> tuple[Any, Any]:
        return self.env.reset(jax.random.key(3))

    def step(self, key: Any, state: Any, actions: Any) -> tuple[Any, Any]:
        return self.env.step(jax.random.key(0), state, actions)


class Fixed(Alike):
    """A toy, whose chance depends on nothing but the state."""

    def step(self, key: Any, state: Any, actions: Any) -> tuple[Any, Any]:
        return self.env.step(jax.random.fold_in(jax.random.key(5), state.time), state, actions)


class Hosted(HostEnvironment):
    """A game of the device, stepped on the host."""

    def __init__(self, env: Any):
        self.env, self.spec = env, env.spec
        self._reset, self._step, self._state = jax.jit(env.reset), jax.jit(env.step), None

    def reset(self, seed: int) -> HostStep:
        self._state, step = self._reset(jax.random.key(seed))
        return self._moment(step)

    def step(self, actions: dict[str, np.ndarray]) -> HostStep:
        self._state, step = self._step(jax.random.key(0), self._state, actions)
        return self._moment(step)

    def _moment(self, step: Any) -> HostStep:
        plain = lambda tree: {name: np.asarray(x) for name, x in tree.items()}
        return HostStep(
            plain(step.observation),
            plain(step.legal),
            plain(step.acting),
            plain(step.reward),
            bool(step.terminated),
            bool(step.truncated),
            None,
            plain(step.seat),
        )


def fixed_drift(*, masked: bool = False, teams: bool = False, agents: int = 2) -> Hosted:
    return Hosted(Fixed(Drift(agents=agents, masked=masked, teams=teams)))


def fixed_spread() -> Hosted:
    return Hosted(Alike(make("mpe/simple_spread")))


def fixed_turns(*, truncates: bool = False) -> Hosted:
    return Hosted(Fixed(Turns(truncates=truncates)))


class Diary(HostEnvironment):
    """Shows who it is: the number of its life, given by its seed, and the step in it; ends after `length` steps.

    `misbehave` says how it fails, at random but rarely (`rate`), or once when the file `once` is there.
    """

    def __init__(self, length: int, misbehave: str, rate: float, once: str, width: int):
        group = GroupSpec("writer", 1, Box((2,)), Discrete(2), "writer", 1)
        self.spec = GameSpec("host/diary", (group,), "common", horizon=length, truncates=width > 0)
        self.length, self.misbehave, self.rate, self.once = length, misbehave, rate, once
        self.truncates = width > 0
        self._life = self._time = 0

    def reset(self, seed: int) -> HostStep:
        self._life, self._time = seed % (1 << 24), 0
        self._random = np.random.default_rng(os.getpid() + time.monotonic_ns())  # copies differ
        return self._show(0.0)

    def step(self, actions: dict[str, np.ndarray]) -> HostStep:
        self._time += 1
        if self.misbehave and self._now():
            if self.misbehave == "hang":
                time.sleep(3600)
            if self.misbehave == "crash":
                os.abort()
            if self.misbehave == "raise":
                raise RuntimeError("the diary is torn")
            if self.misbehave == "nan":
                return self._show(float("nan"))
        return self._show(float(self._time))

    def _now(self) -> bool:
        if self.once:
            try:
                Path(self.once).unlink()
            except FileNotFoundError:
                return False
            return True
        return bool(self._random.random() < self.rate)

    def _show(self, reward: float) -> HostStep:
        over = self._time >= self.length
        return HostStep(
            {"writer": np.array([[self._life, self._time]], np.float32)},
            {},
            {"writer": np.array([not over or self.truncates])},
            {"writer": np.array([reward], np.float32)},
            terminated=over and not self.truncates,
            truncated=over and self.truncates,
        )


def diary(*, length: int = 7, misbehave: str = "", rate: float = 0.01, once: str = "", width: int = 0) -> Diary:
    return Diary(length, misbehave, rate, once, width)


def threaded_diary(*, misbehave: str = "", once: str = "") -> Diary:
    """A diary that starts a thread, so that its process cannot be copied."""
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    return Diary(7, misbehave, 0.01, once, 0)


def never(*, message: str = "no such game") -> HostEnvironment:
    raise RuntimeError(message)


def nothing() -> str:
    return "not an environment"
