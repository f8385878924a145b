"""The configuration of a run, from defaults, a preset, a TOML file and flags; each value's origin is kept."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomli_w

from ludus.algorithms.per_team import PerTeam
from ludus.algorithms.registry import make_algorithm, name_of
from ludus.core.errors import UsageError, nearest
from ludus.envs.registry import option_types, options_of, versioned
from ludus.runtime.programs import Placement


@dataclass(frozen=True)
class Settings(Placement):
    """What a run needs besides its algorithm and its game."""

    steps: int = 1_000_000
    """Environment steps to train for, of each seed (one step: every agent that can move does)."""
    num_envs: int = 16
    """Environments that run in parallel, of each seed."""
    seed: int = 0
    """First seed; it fixes everything random."""
    seeds: int = 1
    """Train this many seeds, `seed`, `seed` + 1, …, in one program."""
    devices: int = 0
    """Devices to spread seeds or environments over; 0: choose."""
    evaluate_every: int = 0
    """Steps between evaluations; 0: only at the end."""
    evaluate_episodes: int = 128
    """Episodes of each evaluation."""
    evaluate_explore: bool = True
    """Whether evaluations during training sample actions, or take the most likely."""
    checkpoint_every: float = 60.0
    """Seconds between checkpoints."""
    on_nan: Literal["stop", "skip"] = "stop"
    """When a reward or observation is not finite: stop, or cut the episode and go on."""


@dataclass(frozen=True)
class Config:
    """A run, resolved."""

    algorithm: Any
    environment: str
    options: dict[str, Any] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to `config.toml`."""
        return {
            "algorithm": {"name": name_of(self.algorithm), **_plain(self.algorithm)},
            "environment": {"name": self.environment, **self.options},
            "settings": _plain(self.settings),
        }

    def to_toml(self) -> str:
        """The text of `config.toml`."""
        return tomli_w.dumps(self.to_dict())


def _plain(instance: Any) -> dict[str, Any]:
    """A dataclass as plain values, tuples as lists."""
    if isinstance(instance, PerTeam):
        return {team: {"name": name_of(a), **_plain(a)} for team, a in instance.teams.items()}
    plain: dict[str, Any] = {}
    for f in fields(instance):
        value = getattr(instance, f.name)
        if dataclasses.is_dataclass(value):
            plain[f.name] = _plain(value)
        else:
            plain[f.name] = list(value) if isinstance(value, tuple) else value
    return plain


def merge(instance: Any, changes: dict[str, Any], where: str) -> Any:
    """A dataclass with some fields replaced; names and types are checked, nested dataclasses are merged."""
    if isinstance(instance, PerTeam):
        return _merge_teams(instance, changes, where)
    hints = typing.get_type_hints(type(instance))
    known = {f.name for f in fields(instance)}
    new = {}
    for name, value in changes.items():
        if name not in known:
            raise UsageError(f"{where} has no field '{name}'{nearest(name, known) or _list(known)}")
        current = getattr(instance, name)
        place = f"{where}.{name}"
        if dataclasses.is_dataclass(current):
            if not isinstance(value, dict):
                raise UsageError(f"{place} must be a table, not {value!r}")
            new[name] = merge(current, value, place)
        else:
            new[name] = checked(value, hints[name], place)
    return dataclasses.replace(instance, **new)


def _merge_teams(instance: PerTeam, changes: dict[str, Any], where: str) -> PerTeam:
    """Each team's table goes to its algorithm."""
    teams = dict(instance.teams)
    for team, own in changes.items():
        if team not in teams or not isinstance(own, dict):
            raise UsageError(f"{where} has no table '{team}'{nearest(team, teams) or _list(set(teams))}")
        own = {k: v for k, v in own.items() if k != "name"}
        teams[team] = merge(teams[team], own, f"{where}.{team}")
    return PerTeam(teams)


def _list(known: set[str]) -> str:
    return f"; it has: {', '.join(sorted(known))}"


def checked(value: Any, hint: Any, place: str) -> Any:
    """`value` as the type `hint`, or a `UsageError` that says what was expected."""
    if hint is Any:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments:
            close = nearest(str(value), [str(a) for a in arguments])
            raise UsageError(f"{place} must be one of {', '.join(map(str, arguments))}, not {value!r}{close}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{place} must be a list, not {value!r}")
        return tuple(checked(v, arguments[0], place) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise UsageError(f"{place} must be {kinds.get(hint, hint.__name__)}, not {value!r}")
    return value


# field -> (least, most) that makes sense, wherever it stands in a configuration
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("steps", "num_envs", "seeds", "evaluate_episodes"), (1, math.inf)),
    **dict.fromkeys(("devices", "evaluate_every", "checkpoint_every"), (0, math.inf)),
    **dict.fromkeys(("workers", "envs_per_actor", "inference_servers", "evaluators"), (0, math.inf)),
    **dict.fromkeys(("actors", "learners"), (1, math.inf)),
    "env_timeout": (0.1, math.inf),
    "seed": (0, 2**32 - 1),
    **dict.fromkeys(("rollout_length", "minibatches", "epochs"), (1, math.inf)),
    **dict.fromkeys(("hidden", "memory_size", "conv", "after"), (1, math.inf)),
    **dict.fromkeys(("learning_rate", "entropy_weight", "value_weight", "clip"), (0, math.inf)),
    **dict.fromkeys(("discount", "trace"), (0, 1)),
    **dict.fromkeys(("max_grad_norm", "reward_scale"), (1e-30, math.inf)),
}


def check_ranges(config: Config) -> None:
    """Raise `UsageError` for a number that makes no sense."""
    _check_ranges({k: v for k, v in config.to_dict().items() if k != "environment"}, "")


def _check_ranges(tree: dict[str, Any], where: str) -> None:
    for name, value in tree.items():
        if isinstance(value, dict):
            _check_ranges(value, f"{where}{name}.")
        elif name in _RANGES:
            least, most = _RANGES[name]
            for x in value if isinstance(value, list) else [value]:
                if not least <= x <= most:
                    limit = f"between {least} and {most}" if most < math.inf else f"at least {least:g}"
                    raise UsageError(f"{where}{name} must be {limit}, not {x}")


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's content, or a `UsageError` that says where it is wrong."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def preset(algorithm: str, environment: str) -> dict[str, Any]:
    """The shipped settings for an algorithm in a game: tables as in `config.toml`; empty if there is none.

    Looked up as `[algorithm."suite/name"]`, then `[algorithm."suite"]`, in `presets/SUITE.toml`.
    """
    environment = versioned(environment)
    suite = environment.partition("/")[0]
    file = resources.files("ludus.experiment") / "presets" / f"{suite}.toml"
    if not suite.isidentifier() or not file.is_file():
        return {}
    tables = tomllib.loads(file.read_text()).get(algorithm, {})
    found: dict[str, Any] = tables.get(environment, tables.get(suite, {}))
    return found


def presets() -> dict[str, list[str]]:
    """The games (or whole suites) with shipped presets, by algorithm."""
    found: dict[str, list[str]] = {}
    for file in sorted((resources.files("ludus.experiment") / "presets").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            for algorithm, tables in tomllib.loads(file.read_text()).items():
                found.setdefault(algorithm, []).extend(tables)
    return found


class Resolver:
    """Builds a `Config` layer by layer and remembers where each value comes from."""

    def __init__(self, algorithm: str, environment: str):
        self.algorithm_name, self.environment = algorithm, environment
        self.algorithm = make_algorithm(algorithm)
        self.settings = Settings()
        self.options: dict[str, Any] = {}
        self.origin: dict[str, str] = {}

    def apply(self, layer: dict[str, Any], origin: str) -> Resolver:
        """Put one layer, tables as in `config.toml`, over what is there."""
        for table in layer:
            if table not in ("algorithm", "environment", "settings"):
                raise UsageError(
                    f"{origin} has a table [{table}]{nearest(table, ['algorithm', 'environment', 'settings'])}"
                    " (known: algorithm, environment, settings)"
                )
            if not isinstance(layer[table], dict):
                raise UsageError(f"{origin}: {table} must be a table, like [{table}]")
        own = dict(layer.get("algorithm", {}))
        name = own.pop("name", self.algorithm_name)
        if name != self.algorithm_name:
            raise UsageError(f"{origin} is for the algorithm '{name}', not '{self.algorithm_name}'")
        options = dict(layer.get("environment", {}))
        name = options.pop("name", self.environment)
        if name != self.environment:
            raise UsageError(f"{origin} is for the environment '{name}', not '{self.environment}'")
        self.algorithm = merge(self.algorithm, own, "algorithm")
        self.settings = merge(self.settings, layer.get("settings", {}), "settings")
        self.options.update(check_options(self.environment, options))
        for key in _paths({"algorithm": own, "environment": options, "settings": layer.get("settings", {})}):
            self.origin[key] = origin
        return self

    def config(self) -> Config:
        """What the layers add up to."""
        return Config(self.algorithm, self.environment, dict(self.options), self.settings)


def check_options(environment: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a game, with names and types checked."""
    if not options:
        return {}
    known, hints = options_of(environment), option_types(environment)
    for name, value in options.items():
        if name not in known:
            hint = nearest(name, known) or f"; it takes: {', '.join(sorted(known)) or 'none'}"
            raise UsageError(f"'{environment}' has no option '{name}'{hint}")
        plain = [a for a in typing.get_args(hints[name]) if a is not type(None)]
        union = type(None) in typing.get_args(hints[name])
        options[name] = checked(value, plain[0] if union and len(plain) == 1 else hints[name], f"environment.{name}")
    return options


def _paths(tree: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in tree.items():
        found += _paths(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return found


def resolve(
    algorithm: str, environment: str, *, file: Path | None = None, flags: dict[str, Any] | None = None
) -> tuple[Config, dict[str, str]]:
    """Defaults, preset, file, flags, in this order; the configuration and the origin of each changed value."""
    resolver = Resolver(algorithm, environment).apply(preset(algorithm, environment), "preset")
    if file is not None:
        resolver.apply(read_toml(file), str(file))
    resolver.apply(flags or {}, "flag")
    return resolver.config(), resolver.origin


def from_dict(tables: dict[str, Any], where: str) -> Config:
    """A configuration as stored in a run directory."""
    try:
        algorithm, environment = tables["algorithm"]["name"], tables["environment"]["name"]
    except (KeyError, TypeError) as error:
        raise UsageError(f"{where} does not name its algorithm and environment") from error
    return Resolver(algorithm, environment).apply(tables, where).config()
