"""Gymnasium's games of one agent, stepped on the host: `gymnasium/LunarLander-v3`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from ludus.core.errors import UsageError
from ludus.core.host import HostEnvironment, HostStep
from ludus.core.spec import GameSpec, GroupSpec
from ludus.envs.host_spaces import deed, legal_from, sight


def _listed() -> tuple[str, ...]:
    """The newest version of every registered game that is a game of its own."""
    newest: dict[str, Any] = {}
    for entry in gymnasium.registry.values():
        if entry.namespace is None and "/" not in entry.id and entry.version is not None:
            best = newest.get(entry.name)
            if best is None or entry.version > best.version:
                newest[entry.name] = entry
    return tuple(sorted(entry.id for entry in newest.values()))


NAMES = _listed()


class GymnasiumGame(HostEnvironment):
    """One game; its agent is a group of one."""

    def __init__(self, game: gymnasium.Env, name: str):
        self.game = game
        self._sight, self._deed = sight(game.observation_space), deed(game.action_space)
        count = getattr(self._deed.space, "n", 0)
        self._count = count
        _, info = game.reset(seed=0)
        self._masked = bool(count) and (self._sight.mask is not None or "action_mask" in info)
        limit = game.spec.max_episode_steps if game.spec is not None else None
        group = GroupSpec("agent", 1, self._sight.space, self._deed.space, "agent", 1, masked=self._masked)
        self.spec = GameSpec(name, (group,), "common", horizon=limit, truncates=True)

    def reset(self, seed: int) -> HostStep:
        """See `HostEnvironment.reset`."""
        seen, info = self.game.reset(seed=seed)
        return self._moment(seen, info, 0.0, False, False)

    def step(self, actions: dict[str, np.ndarray]) -> HostStep:
        """See `HostEnvironment.step`."""
        seen, reward, terminated, truncated, info = self.game.step(self._deed.write(actions["agent"][0]))
        return self._moment(seen, info, float(reward), bool(terminated), bool(truncated))

    def _moment(self, seen: Any, info: dict[str, Any], reward: float, terminated: bool, truncated: bool) -> HostStep:
        legal = {}
        if self._masked:
            mask = seen[self._sight.mask] if self._sight.mask else info.get("action_mask", np.ones(self._count))
            legal["agent"] = legal_from(mask, self._count)[None]
        return HostStep(
            observation={"agent": self._sight.read(seen)[None]},
            legal=legal,
            acting={"agent": np.array([not terminated])},
            reward={"agent": np.array([reward], np.float32)},
            terminated=terminated,
            truncated=truncated,
        )

    def render(self) -> np.ndarray | None:
        """See `HostEnvironment.render`."""
        return None if self.game.render_mode != "rgb_array" else np.asarray(self.game.render())

    def close(self) -> None:
        """See `HostEnvironment.close`."""
        self.game.close()


def make(name: str, *, pictures: bool = False, arguments: str = "") -> GymnasiumGame:
    """A game by its Gymnasium id.

    `pictures` lets it draw; `arguments` are its own keyword arguments as `name=value,name=value`, values in TOML.
    """
    from ludus.envs.host_options import keywords

    try:
        game = gymnasium.make(name, render_mode="rgb_array" if pictures else None, **keywords(arguments))
    except gymnasium.error.DependencyNotInstalled as error:
        raise UsageError(f"gymnasium/{name} needs a package of its own: {error}") from error
    return GymnasiumGame(game, f"gymnasium/{name}")
