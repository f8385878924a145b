"""PettingZoo's games, stepped on the host: those in which all move at once, and (through `Turns`) one at a time."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ludus.core.errors import UsageError, nearest
from ludus.core.host import HostEnvironment, HostStep, blank
from ludus.core.spaces import Discrete
from ludus.core.spec import RewardKind
from ludus.envs.host_agents import Agents, Teams, gather, padded, specification, team_rewards, unknown_agents
from ludus.envs.host_options import keywords
from ludus.envs.host_spaces import Deed, Sight, deed, legal_from, sight
from ludus.envs.pettingzoo_turns import Turns

_FAMILIES = ("butterfly", "classic", "sisl")
_ONE_TEAM = (
    "simple_v",
    "simple_spread",
    "simple_reference",
    "simple_speaker_listener",
    "simple_line",
    "simple_formation",
    "collect_treasure",
    "pursuit",
    "multiwalker",
    "pistonball",
    "cooperative_pong",
    "knights_archers_zombies",
    "hanabi",
)
_CLASSIC_TEAMS = ("chess", "connect_four", "go_", "tictactoe", "rps", "leduc_holdem", "texas_holdem")


def listed(package: str) -> tuple[str, ...]:
    """The games of one package: its modules whose names end in a version; empty where it is not installed."""
    try:
        path = importlib.import_module(package).__path__
    except ImportError:
        return ()
    found = (m.name for m in pkgutil.iter_modules(path))
    return tuple(sorted(name for name in found if name.rpartition("_v")[2].isdigit()))


NAMES = tuple(f"{family}/{name}" for family in _FAMILIES for name in listed(f"pettingzoo.{family}"))


class Together(HostEnvironment):
    """A game of the parallel kind. Agents may die, appear, and have spaces of their own.

    Where `possible_agents` says who may live, each has a row of its own; else agents take free rows as they appear,
    with observations and actions padded to `width` and `choices`.
    """

    def __init__(
        self,
        game: Any,
        name: str,
        *,
        teams: Teams = "auto",
        reward: Literal["own", "team"] = "own",
        places: int = 0,
        width: int = 0,
        choices: int = 0,
    ):
        self.game, self._team_reward = game, reward == "team"
        self._spaces: dict[str, tuple[Sight, Deed]] = {}
        _, infos = game.reset(seed=0)
        known = list(getattr(game, "possible_agents", None) or ())
        self._width = 0 if known else width
        if known:
            masked = lambda a: self._look(a)[0].mask is not None or "action_mask" in infos.get(a, {})
            self._agents = gather(known, self._look, masked, teams_of(name, teams), False)
        else:
            self._agents = unknown_agents(places, width, choices)
        self._place: dict[str, tuple[str, int]] = self._agents.place
        self.spec = specification(
            name, self._agents, state_of(game), rewards_of(name, self._agents, reward), "simultaneous"
        )
        self._blank = blank(self.spec)

    def _look(self, agent: str) -> tuple[Sight, Deed]:
        if agent not in self._spaces:
            self._spaces[agent] = sight(self.game.observation_space(agent)), deed(self.game.action_space(agent))
        return self._spaces[agent]

    def _where(self, agent: str) -> tuple[str, int]:
        """The group and row of an agent, which it takes when it first appears. Raises `ValueError` for one too many."""
        if agent not in self._place:
            group = self.spec.groups[0]
            if not self._width:
                raise ValueError(f"agent '{agent}' is not among possible_agents")
            if len(self._place) >= group.size:
                raise ValueError(f"more than {group.size} agents appeared in one episode; raise places")
            self._place[agent] = (group.name, len(self._place))
        return self._place[agent]

    def reset(self, seed: int) -> HostStep:
        """See `HostEnvironment.reset`."""
        seen, infos = self.game.reset(seed=seed)
        if self._width:  # agents, and even their spaces, may be others now
            self._spaces, self._place = {}, {}
        return self._moment(seen, infos, {}, {}, {})

    def step(self, actions: dict[str, np.ndarray]) -> HostStep:
        """See `HostEnvironment.step`."""
        chosen = {}
        for agent in self.game.agents:
            group, row = self._where(agent)
            chosen[agent] = self._look(agent)[1].write(actions[group][row])
        seen, rewards, terminated, truncated, infos = self.game.step(chosen)
        return self._moment(seen, infos, rewards, terminated, truncated)

    def _moment(self, seen: dict, infos: dict, rewards: dict, terminated: dict, truncated: dict) -> HostStep:
        step = HostStep(
            observation={name: np.zeros_like(x) for name, x in self._blank.observation.items()},
            legal={name: np.ones_like(x) for name, x in self._blank.legal.items()},
            acting={name: np.zeros_like(x) for name, x in self._blank.acting.items()},
            reward={name: np.zeros_like(x) for name, x in self._blank.reward.items()},
        )
        over = not self.game.agents
        cut = {agent for agent, ended in truncated.items() if ended and not terminated.get(agent, False)}
        for agent, x in seen.items():
            group, row = self._where(agent)
            own, act = self._look(agent)
            read = own.read(x)
            step.observation[group][row] = padded(read, self._width) if self._width else read
            # At a time limit those whom it cut would have acted: their values stand for what follows.
            step.acting[group][row] = agent in cut if over else agent in self.game.agents
            if group in step.legal:
                step.legal[group][row] = self._legal(own, act, x, infos.get(agent, {}))
        for agent, x in rewards.items():
            group, row = self._where(agent)
            step.reward[group][row] = x
        if self._team_reward:
            step.reward = team_rewards(self.spec, step.reward)
        step.truncated = over and bool(cut)
        step.terminated = over and not cut
        if self.spec.state is not None:
            step.state = np.asarray(self.game.state(), np.float32)
        return step

    def _legal(self, own: Sight, act: Deed, x: Any, info: dict) -> np.ndarray:
        assert isinstance(act.space, Discrete)
        mask = x[own.mask] if own.mask else info.get("action_mask", np.ones(act.space.n))
        legal = legal_from(mask, act.space.n)
        if not self._width:
            return legal
        choices: Any = self.spec.groups[0].action
        if act.space.n > choices.n:
            raise ValueError(f"an agent has {act.space.n} actions, and choices is {choices.n}")
        return np.concatenate([legal, np.zeros(choices.n - act.space.n, bool)])

    def render(self) -> np.ndarray | None:
        """See `HostEnvironment.render`."""
        return np.asarray(self.game.render()) if getattr(self.game, "render_mode", None) == "rgb_array" else None

    def close(self) -> None:
        """See `HostEnvironment.close`."""
        self.game.close()


def state_of(game: Any) -> np.ndarray | None:
    """The global state, where a game shows one as an array."""
    try:
        state = np.asarray(game.state(), np.float32)
    except Exception:  # games say in many ways that they have none
        return None
    return state if state.ndim else None


def teams_of(name: str, teams: Teams) -> Literal["one", "each", "by-name"]:
    """Who belongs together, as asked for or as a known game has it."""
    if teams != "auto":
        return teams
    own = name.rpartition("/")[2]
    if own.startswith(_ONE_TEAM):
        return "one"
    return "each" if own.startswith(_CLASSIC_TEAMS) else "by-name"


def rewards_of(name: str, agents: Agents, reward: str) -> RewardKind:
    """What a known game's rewards are; of others nothing is assumed."""
    if len({t for g in agents.groups for t in g.teams}) == 1 and (reward == "team" or agents.groups[0].size == 1):
        return "common"
    return "zero-sum" if name.rpartition("/")[2].startswith(_CLASSIC_TEAMS) else "general-sum"


def module_of(package: str, name: str) -> Any:
    """A game's module. Raises `UsageError` where it, or what it needs, is not there."""
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.startswith(package):
            raise UsageError(f"'{package}' has no game '{name}'{nearest(name, listed(package))}") from error
        raise UsageError(f"{package}.{name} needs the package '{missing}': pip install {missing}") from error


def wrap(game: Any, name: str, **options: Any) -> HostEnvironment:
    """A PettingZoo game of either kind."""
    return Turns(game, name, **options) if hasattr(game, "agent_iter") else Together(game, name, **options)


def build(
    package: str,
    name: str,
    full_name: str,
    *,
    teams: Teams,
    reward: Literal["own", "team"],
    turns: Literal["auto", "together", "one-by-one"],
    pictures: bool,
    arguments: str,
    parallel: Callable[..., Any] | None = None,
    **more: Any,
) -> HostEnvironment:
    """A game of a module with `parallel_env` or `env`; `parallel(module, **arguments)` instead of the former."""
    module = module_of(package, name)
    given = keywords(arguments) | ({"render_mode": "rgb_array"} if pictures else {})
    together = (
        hasattr(module, "parallel_env")
        and turns != "one-by-one"
        and not (turns == "auto" and package.endswith("classic"))
    )
    if turns == "together" and not together:
        raise UsageError(f"{full_name} is played one by one only")
    try:
        if together and parallel is not None:
            game = parallel(module, **given)
        else:
            game = (module.parallel_env if together else module.env)(**given)
    except TypeError as error:
        raise UsageError(f"{full_name} does not take {arguments}: {error}") from error
    if together:
        return Together(game, full_name, teams=teams_of(name, teams), reward=reward, **more)
    return Turns(game, full_name, teams=teams_of(name, teams), reward=reward)


def make(
    name: str,
    *,
    teams: Teams = "auto",
    reward: Literal["own", "team"] = "own",
    turns: Literal["auto", "together", "one-by-one"] = "auto",
    pictures: bool = False,
    arguments: str = "",
) -> HostEnvironment:
    """A game by family and module: `butterfly/pistonball_v6` (or `-v6`).

    `teams`: who belongs together. `reward`: each agent its own, or the mean of its team. `arguments`: the game's own
    keyword arguments as `name=value,name=value`.
    """
    family, _, game = name.partition("/")
    package = f"pettingzoo.{family}"
    options: Any = {"teams": teams, "reward": reward, "turns": turns, "pictures": pictures, "arguments": arguments}
    return build(package, game, f"pettingzoo/{name}", **options)
