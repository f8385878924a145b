"""Checking a game: play it at random, hold it to the rules, and say in plain words what is wrong and where."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import jax
import numpy as np

from ludus.core.errors import UsageError
from ludus.core.host import HostEnvironment, HostStep, problem_with
from ludus.core.spaces import Box, Discrete
from ludus.core.spec import GameSpec
from ludus.envs.registry import make
from ludus.runtime.host.worker import told


class _Device(HostEnvironment):
    """A game of the device, looked at step by step."""

    def __init__(self, env: Any):
        self.spec: GameSpec = env.spec
        self._reset, self._step, self._state = jax.jit(env.reset), jax.jit(env.step), None
        self._key = jax.random.key(0)

    def reset(self, seed: int) -> HostStep:
        """See `HostEnvironment.reset`."""
        self._key = jax.random.key(seed)
        self._state, step = self._reset(self._key)
        return self._moment(step)

    def step(self, actions: dict[str, np.ndarray]) -> HostStep:
        """See `HostEnvironment.step`."""
        self._key, key = jax.random.split(self._key)
        self._state, step = self._step(key, self._state, actions)
        return self._moment(step)

    def _moment(self, step: Any) -> HostStep:
        plain = lambda tree: {name: np.asarray(x) for name, x in tree.items()}
        state = None if step.state is None else np.asarray(step.state)
        seen, legal, acting, reward = map(plain, (step.observation, step.legal, step.acting, step.reward))
        ends = bool(step.terminated), bool(step.truncated)
        return HostStep(seen, legal, acting, reward, *ends, state, plain(step.seat))


def check(name: str, steps: int = 500, seed: int = 0) -> dict[str, Any]:
    """What was found, line by line, and whether the game is fit to be trained in.

    Raises `UsageError` for a game that cannot be made.
    """
    if steps < 1:
        raise UsageError(f"a game is checked over at least one step, not {steps}")
    made = make(name)
    game = made if isinstance(made, HostEnvironment) else _Device(made)
    lines: list[str] = []
    wrong: list[str] = []
    _suite(made, name, lines, wrong)
    try:
        _play(game, steps, seed, lines, wrong)
        _repeat(game, seed, lines, wrong)
    finally:
        game.close()
    return {"environment": name, "fine": not wrong, "found": lines + [f"WRONG: {w}" for w in wrong], "wrong": wrong}


def _suite(game: Any, name: str, lines: list[str], wrong: list[str]) -> None:
    """The suite's own conformance tests, where it has some."""
    raw: Any = getattr(game, "game", None)
    tests: list[tuple[str, Any]] = []
    if hasattr(raw, "agent_iter"):
        from pettingzoo.test import api_test

        tests.append(("PettingZoo's api_test", lambda: api_test(raw, num_cycles=100)))
    elif hasattr(raw, "possible_agents") or hasattr(raw, "agents"):
        from pettingzoo.test import parallel_api_test

        tests.append(("PettingZoo's parallel_api_test", lambda: parallel_api_test(raw, num_cycles=100)))
    elif type(game).__module__.endswith("envs.gymnasium"):
        from gymnasium.utils.env_checker import check_env

        tests.append(("Gymnasium's check_env", lambda: check_env(raw.unwrapped, skip_render_check=True)))
    for title, test in tests:
        with warnings.catch_warnings(record=True) as heard, contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("always")
            try:
                test()
                lines.append(f"{title}: passed")
            except Exception as error:  # a suite's test says what is wrong in whatever way it likes
                wrong.append(f"{title} fails: {told(error)}")
        for text in dict.fromkeys(str(w.message).strip().splitlines()[0] for w in heard if str(w.message).strip()):
            lines.append(f"{title} remarks: {text[:200]}")


def _play(game: HostEnvironment, steps: int, seed: int, lines: list[str], wrong: list[str]) -> None:
    spec, random = game.spec, np.random.default_rng(seed)
    lines.append(
        "groups: " + ", ".join(f"{g.name} ({g.size}, team {g.team})" for g in spec.groups) + f"; {spec.turns} moves"
    )
    if len(spec.teams) > 1 and spec.reward == "common":
        wrong.append("rewards are said to be common, and there are several teams")
    step, episodes, ends, length, longest = game.reset(seed), 0, {"terminated": 0, "truncated": 0}, 0, 0
    sums = np.zeros(len(spec.groups))
    for t in range(steps):
        where = f"at step {length} of episode {episodes}"
        found = _shapes(spec, step) or problem_with(spec, step)
        if found:
            wrong.append(f"{found}, {where}")
            return
        if not any(x.any() for x in step.acting.values()):
            wrong.append(f"nobody has to act and the episode goes on, {where}")
            return
        try:
            step = game.step({g.name: _action(g, step, random) for g in spec.groups})
        except Exception as error:  # a game may raise anything
            wrong.append(f"step fails {where}: {told(error)}")
            return
        length += 1
        sums += [step.reward[g.name].sum() for g in spec.groups]
        if spec.reward == "zero-sum" and abs(sum(float(x.sum()) for x in step.reward.values())) > 1e-4:
            wrong.append(f"rewards are said to be zero-sum, and their sum is not zero, {where}")
            return
        if step.done:
            ends["terminated" if step.terminated else "truncated"] += 1
            if step.truncated and not spec.truncates:
                wrong.append(f"the episode is cut by a time limit, and the game says that it has none, {where}")
            if step.terminated and step.truncated:
                lines.append(f"an episode is both terminated and truncated; termination counts, {where}")
            if spec.horizon and length > spec.horizon:
                wrong.append(f"the episode took {length} steps, and the horizon is {spec.horizon}")
            longest, length, episodes = max(longest, length), 0, episodes + 1
            if t + 1 < steps:
                step = game.reset(seed + episodes)
    lines.append(
        f"{steps} steps at random: {episodes} episodes ended ({ends['terminated']} terminated, {ends['truncated']} "
        f"truncated), the longest after {longest} steps"
    )
    if not episodes:
        lines.append("no episode ended: play more --steps to see one end")


def _action(group: Any, step: HostStep, random: np.random.Generator) -> np.ndarray:
    if isinstance(group.action, Discrete):
        legal = step.legal.get(group.name, np.ones((group.slots, group.action.n), bool))
        rows = [random.choice(np.flatnonzero(row)) if row.any() else 0 for row in legal]
        return np.array(rows, np.int32)
    low, high = (
        np.broadcast_to(np.asarray(b, float), group.action.shape) for b in (group.action.low, group.action.high)
    )
    return random.uniform(np.maximum(low, -1e3), np.minimum(high, 1e3), (group.slots, *group.action.shape)).astype(
        np.float32
    )


def _shapes(spec: GameSpec, step: HostStep) -> str | None:
    """Whether arrays have the shapes that the specification says, and observations their bounds."""
    for g in spec.groups:
        expected = {"observation": (g.slots, *g.observation.shape), "reward": (g.size,), "acting": (g.size,)}
        for kind, shape in expected.items():
            got = getattr(step, kind)[g.name].shape
            if got != shape:
                return f"the {kind} of group '{g.name}' has shape {got} where {shape} is declared"
        if g.masked and isinstance(g.action, Discrete) and step.legal[g.name].shape != (g.slots, g.action.n):
            return f"the legal actions of group '{g.name}' have shape {step.legal[g.name].shape}"
        box: Box = g.observation
        low, high = (np.asarray(b, float).reshape(-1) for b in (box.low, box.high))
        seen = step.observation[g.name].reshape(g.slots, -1)
        rows = seen[step.acting[g.name]] if g.slots == g.size else seen
        if ((rows < low - 1e-4) | (rows > high + 1e-4)).any():
            return f"an observation of group '{g.name}' is outside its bounds"
    return None


def _repeat(game: HostEnvironment, seed: int, lines: list[str], wrong: list[str]) -> None:
    """Whether the same seed begins the same episode."""
    first, second = game.reset(seed + 1), game.reset(seed + 1)
    same = all(np.array_equal(first.observation[name], x) for name, x in second.observation.items())
    if same:
        lines.append("the same seed begins the same episode")
    else:
        lines.append("the same seed does not begin the same episode: runs cannot be repeated exactly")
