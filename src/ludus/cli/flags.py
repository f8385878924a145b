"""The flags of `ludus train`: one for every hyperparameter, typed, with the field's own help."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ludus.algorithms.per_team import PerTeam
from ludus.cli.parse import parse
from ludus.core.errors import UsageError
from ludus.envs.registry import check_name, option_types, options_of
from ludus.experiment.config import Config, resolve


@dataclass(frozen=True)
class Given:
    """What the command line asks for."""

    config: Config
    origin: dict[str, str]
    run_dir: Path | None
    dry_run: bool
    json: bool
    quiet: bool


@dataclass(frozen=True)
class _Command:
    run_dir: Path | None = None
    """Where the run lives (default: a new directory under runs/)."""
    config: Path | None = None
    """A TOML file with tables [algorithm], [environment], [settings]; flags go over it."""
    dry_run: bool = False
    """Print the resolved configuration with the origin of each value, and stop."""
    json: bool = False
    """Print one JSON object on standard output at the end, and nothing else there."""
    quiet: bool = False
    """Print nothing but errors."""


def parse_train(arguments: list[str]) -> Given:
    """Parse `ALGORITHM ENVIRONMENT [flags]`. Values: defaults, then preset, then --config file, then flags."""
    words = [a for a in arguments[:2] if not a.startswith("-")]
    if len(words) < 2:
        helps = "-h" in arguments or "--help" in arguments
        words = [*words, "ppo"][:1] + ["matrix/rock_paper_scissors"] if helps else words
        if not helps:
            raise UsageError("usage: ludus train ALGORITHM ENVIRONMENT [flags], e.g. ludus train ppo mpe/simple_spread")
    algorithm, environment = words
    rest = [a for a in arguments if a not in words] if "-h" in arguments or "--help" in arguments else arguments[2:]
    file = value_of(rest, "--config")
    check_name(environment)  # a wrong name is refused before flags are looked at
    base, origin = resolve(algorithm, environment, file=None if file is None else Path(file))
    asked = ask(
        rest, f"train {algorithm} {environment}", _Command(), base.settings, base.algorithm, environment, base.options
    )
    config = Config(asked.algorithm, environment, asked.options, asked.settings)
    for path in _leaves(config.to_dict()):
        flag = path.removeprefix("algorithm.").removeprefix("settings.").replace("environment.", "env.")
        if flag in asked.changed:
            origin[path] = "flag"
    command = asked.command
    return Given(config, origin, command.run_dir, command.dry_run, command.json, command.quiet)


@dataclass(frozen=True)
class Asked:
    """What flags say."""

    command: Any
    settings: Any
    algorithm: Any
    options: dict[str, Any]
    changed: set[str]  # the flags that were given


def ask(
    arguments: list[str],
    command_line: str,
    command: Any,
    settings: Any,
    algorithm: Any,
    environment: str,
    given: dict[str, Any],
) -> Asked:
    """Parse flags over what stands in these dataclasses: the command's own, settings, every hyperparameter, options."""
    arguments = [_whole(a) for a in arguments]
    kinds: list[tuple[str, Any, Any]] = []
    for name, part in _parts(algorithm):
        kinds.append((name, _flat(type(part)) if name == "algorithm" else type(part), part))
    options = _options_class(environment, given)
    fields: list[Any] = [
        ("command", Annotated[type(command), tyro.conf.arg(name="")], dataclasses.field(default=command)),
        ("settings", Annotated[type(settings), tyro.conf.arg(name="")], dataclasses.field(default=settings)),
    ]
    fields += [(name, kind, dataclasses.field(default=part)) for name, kind, part in kinds]
    if options is not None:
        fields.append(("env", type(options), dataclasses.field(default=options)))
    parser = dataclasses.make_dataclass("Flags", fields, frozen=True)
    parsed: Any = parse(parser, arguments, command_line)
    changed = {
        a.split("=")[0].lstrip("-").replace("-", "_").removeprefix("no_") for a in arguments if a.startswith("--")
    }
    found = {name: getattr(parsed, name) for name, _, _ in kinds}
    new = PerTeam(found) if isinstance(algorithm, PerTeam) else found.get("algorithm", algorithm)
    values = dict(given)
    if options is not None:
        values |= {
            f.name: getattr(parsed.env, f.name)
            for f in dataclasses.fields(options)
            if getattr(parsed.env, f.name) != options_of(environment)[f.name] or f.name in given
        }
    return Asked(parsed.command, parsed.settings, new, values, changed)


def _flat(kind: type) -> Any:
    return Annotated[kind, tyro.conf.arg(name="")]


def _parts(algorithm: Any) -> list[tuple[str, Any]]:
    """What gets flags: the algorithm, or each team's under the team's name; nothing where none learns."""
    if not dataclasses.is_dataclass(algorithm):
        return []
    return list(algorithm.teams.items()) if isinstance(algorithm, PerTeam) else [("algorithm", algorithm)]


def _whole(argument: str) -> str:
    """`1e6` as `1000000`, so that it may stand for a whole number."""
    if re.fullmatch(r"\d+(\.\d+)?[eE]\+?\d{1,2}", argument) and float(argument).is_integer():
        return str(int(float(argument)))
    return argument


def value_of(arguments: list[str], flag: str) -> str | None:
    """What stands behind a flag, before flags are parsed; None if it is not there."""
    for i, a in enumerate(arguments):
        if a == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if a.startswith(flag + "="):
            return a.partition("=")[2]
    return None


def _options_class(environment: str, given: dict[str, Any]) -> Any:
    """An instance of a dataclass with the game's plain options, for flags --env.NAME; None if there are none."""
    hints = option_types(environment)
    plain = {k: v for k, v in options_of(environment).items() if hints.get(k) is not Any}
    if not plain:
        return None
    fields = [(k, hints[k], dataclasses.field(default=given.get(k, v))) for k, v in plain.items()]
    return dataclasses.make_dataclass("Options", fields, frozen=True)()


def _leaves(tree: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in tree.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return found
