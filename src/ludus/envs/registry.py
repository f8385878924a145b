"""Names to games: `make("suite/name", **options)`. Suites are imported only when one of their games is made."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable
from typing import Any

from ludus.core.errors import UsageError, nearest, unknown
from ludus.core.game import Environment
from ludus.core.output import greetings_dropped

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
    "spiel": ("ludus.envs.spiel", "pyspiel", "spiel"),
    "stochastic": ("ludus.envs.stochastic", None, None),
}


_REGISTERED: dict[str, Callable[..., Environment]] = {}


def register(name: str, make: Callable[..., Environment]) -> None:
    """Let `make(name, **options)` give a game of one's own; `make`'s keyword-only parameters are its options.

    For the command line, where nothing is registered, `module:function` names such a function too.
    """
    if name.partition("/")[0] in SUITES or ":" in name:
        raise UsageError(f"the name '{name}' is taken by a suite, or has a colon; choose another")
    _REGISTERED[name] = make


def _own(name: str) -> Callable[..., Environment] | None:
    """A registered game's function, or the one that `module:function` names; None for suites' games."""
    if name in _REGISTERED:
        return _REGISTERED[name]
    if ":" not in name:
        return None
    module_name, _, function = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # modules beside the user, as with `python -m`
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"cannot import '{module_name}' for the environment '{name}': {error}") from error
    if not callable(getattr(module, function, None)):
        raise UsageError(f"'{module_name}' has no function '{function}'{nearest(function, dir(module))}")
    found: Callable[..., Environment] = getattr(module, function)
    return found


def maker(name: str) -> Callable[..., Environment]:
    """The function that makes a game; its keyword-only parameters are the game's options."""
    own = _own(name)
    if own is not None:
        return own
    prefix = name.partition("/")[0]
    if prefix not in SUITES:
        raise _unknown_game(name)
    found: Callable[..., Environment] = suite(prefix).make
    return found


def suite(name: str) -> Any:
    """Import one suite's adapter, or say which extra installs it."""
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    module, package, extra = SUITES[name]
    if package is not None and importlib.util.find_spec(package) is None:
        raise UsageError(f"the suite '{name}' needs the package '{package}': pip install 'ludus[{extra}]'")
    with greetings_dropped():  # some suites greet on standard output
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
    function = maker(name)
    prefix, _, rest = name.partition("/")
    own = _own(name) is not None
    if not own and rest.partition("(")[0] not in suite(prefix).NAMES:
        raise unknown("environment", name, names(prefix))
    accepted = options_of(name)
    for option in options:
        if option not in accepted:
            hint = nearest(option, accepted) or f"; it takes: {', '.join(sorted(accepted)) or 'none'}"
            raise UsageError(f"'{name}' has no option '{option}'{hint}")
    try:
        with greetings_dropped():
            return function(**options) if own else function(rest, **options)
    except UsageError:
        raise
    except Exception as error:  # whatever a suite makes of values that it cannot use
        if not options or own:
            raise
        given = ", ".join(f"{key}={value}" for key, value in options.items())
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"'{name}' cannot be made with {given}: {reason}") from error


def _unknown_game(name: str) -> UsageError:
    everything = [game for games in available().values() if isinstance(games, tuple) for game in games]
    return unknown("environment", name, everything)


def options_of(name: str) -> dict[str, Any]:
    """The options of a game with their defaults."""
    parameters = inspect.signature(maker(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def option_types(name: str) -> dict[str, Any]:
    """The types of a game's options."""
    return typing.get_type_hints(maker(name))
