"""Names to games: `make("suite/name", **options)`. Suites are imported only when one of their games is made."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
from typing import Any

from ludus.core.errors import UsageError, nearest, unknown
from ludus.core.game import Environment

# suite -> (our module, the package it needs, the extra that installs it)
SUITES: dict[str, tuple[str, str | None, str | None]] = {
    "matrix": ("ludus.envs.matrix", None, None),
    "mpe": ("ludus.envs.mpe", "jaxmarl", "jaxmarl"),
    "smax": ("ludus.envs.smax", "jaxmarl", "jaxmarl"),
    "overcooked": ("ludus.envs.overcooked", "jaxmarl", "jaxmarl"),
    "hanabi": ("ludus.envs.hanabi", "jaxmarl", "jaxmarl"),
    "switch_riddle": ("ludus.envs.switch_riddle", "jaxmarl", "jaxmarl"),
    "coin_game": ("ludus.envs.coin_game", "jaxmarl", "jaxmarl"),
    "storm": ("ludus.envs.storm", "jaxmarl", "jaxmarl"),
    "pgx": ("ludus.envs.pgx", "pgx", "pgx"),
    "lbf": ("ludus.envs.lbf", "jumanji", "jumanji"),
    "rware": ("ludus.envs.rware", "jumanji", "jumanji"),
    "connector": ("ludus.envs.connector", "jumanji", "jumanji"),
    "gym": ("ludus.envs.gym", "gymnax", "gymnax"),
}


def suite(name: str) -> Any:
    """Import one suite's adapter, or say which extra installs it."""
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    module, package, extra = SUITES[name]
    if package is not None and importlib.util.find_spec(package) is None:
        raise UsageError(f"the suite '{name}' needs the package '{package}': pip install 'ludus[{extra}]'")
    with contextlib.redirect_stdout(sys.stderr):  # some suites greet on standard output
        return importlib.import_module(module)


def names(suite_name: str) -> tuple[str, ...]:
    """The full names of a suite's games."""
    listed = suite(suite_name).NAMES
    return tuple(f"{suite_name}/{name}" if name else suite_name for name in listed)


def available() -> dict[str, tuple[str, ...] | str]:
    """Each suite's games, or the reason why it cannot be used here."""
    found: dict[str, tuple[str, ...] | str] = {}
    for name in SUITES:
        try:
            found[name] = names(name)
        except UsageError as error:
            found[name] = str(error)
        except Exception as error:  # a broken third-party suite must not break the others
            found[name] = f"cannot be imported here: {error}"
    return found


def make(name: str, **options: Any) -> Environment:
    """Make a game by its name, for example `make("mpe/simple_spread", num_agents=5)`.

    Raises `UsageError` for an unknown suite, game or option, with the nearest right one.
    """
    prefix, _, rest = name.partition("/")
    if prefix not in SUITES:
        raise _unknown_game(name)
    module = suite(prefix)
    if rest not in module.NAMES:
        raise unknown("environment", name, names(prefix))
    accepted = {
        parameter.name
        for parameter in inspect.signature(module.make).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    for option in options:
        if option not in accepted:
            hint = nearest(option, accepted) or f"; it takes: {', '.join(sorted(accepted)) or 'none'}"
            raise UsageError(f"'{name}' has no option '{option}'{hint}")
    with contextlib.redirect_stdout(sys.stderr):
        environment: Environment = module.make(rest, **options)
    return environment


def _unknown_game(name: str) -> UsageError:
    everything = [game for games in available().values() if isinstance(games, tuple) for game in games]
    return unknown("environment", name, everything)


def options_of(name: str) -> dict[str, Any]:
    """The options of a game with their defaults."""
    prefix = name.partition("/")[0]
    signature = inspect.signature(suite(prefix).make)
    return {p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
