"""Names to games: `make("suite/name", **options)`. Suites are imported only when one of their games is made."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import typing
from collections.abc import Callable
from typing import Any

from ludus.core.errors import UsageError, nearest, unknown
from ludus.core.host import HostEnvironment
from ludus.core.output import greetings_dropped
from ludus.core.spec import GameSpec

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
    # Stepped on the host, in processes of their own:
    "gymnasium": ("ludus.envs.gymnasium", "gymnasium", "gymnasium"),
    "pettingzoo": ("ludus.envs.pettingzoo", "pettingzoo", "pettingzoo"),
    "mpe2": ("ludus.envs.mpe2", "mpe2", "pettingzoo"),
    "magent2": ("ludus.envs.magent2", "magent2", "pettingzoo"),
    "sisl": ("ludus.envs.sisl", "pettingzoo", "pettingzoo"),
    "spiel-host": ("ludus.envs.spiel_host", "pyspiel", "spiel"),
}
_VERSIONED = ("pettingzoo", "mpe2", "magent2", "sisl")  # suites whose names may be written with -v3 for _v3


_REGISTERED: dict[str, Callable[..., Any]] = {}


def register(name: str, make: Callable[..., Any]) -> None:
    """Let `make(name, **options)` give a game of one's own; `make`'s keyword-only parameters are its options.

    For the command line, where nothing is registered, `module:function` names such a function too.
    """
    if name.partition("/")[0] in SUITES or ":" in name:
        raise UsageError(f"the name '{name}' is taken by a suite, or has a colon; choose another")
    _REGISTERED[name] = make


def _own(name: str) -> Callable[..., Any] | None:
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
    found: Callable[..., Any] = getattr(module, function)
    return found


def check_name(name: str) -> None:
    """Raise `UsageError` for the name of a game that is not there, without making it."""
    maker(name)
    prefix, _, rest = versioned(name).partition("/")
    if _own(name) is None and rest.partition("(")[0] not in suite(prefix).NAMES:
        raise unknown("environment", name, names(prefix))


def versioned(name: str) -> str:
    """A name with its version as its suite writes it: `pistonball-v6` is `pistonball_v6`."""
    return re.sub(r"-v(\d+)$", r"_v\1", name) if name.partition("/")[0] in _VERSIONED else name


def maker(name: str) -> Callable[..., Any]:
    """The function that makes a game; its keyword-only parameters are the game's options."""
    own = _own(name)
    if own is not None:
        return own
    prefix = name.partition("/")[0]
    if prefix not in SUITES:
        raise _unknown_game(name)
    found: Callable[..., Any] = suite(prefix).make
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


def make(name: str, **options: Any) -> Any:
    """Make a game by its name, for example `make("mpe/simple_spread", num_agents=5)`: an `Environment`, or a
    `HostEnvironment` where it is stepped on the host.

    Raises `UsageError` for an unknown suite, game or option, with the nearest right one.
    """
    check_name(name)
    name = versioned(name)
    function, own, rest = maker(name), _own(name) is not None, name.partition("/")[2]
    accepted = options_of(name)
    for option in options:
        if option not in accepted:
            hint = nearest(option, accepted) or f"; it takes: {', '.join(sorted(accepted)) or 'none'}"
            raise UsageError(f"'{name}' has no option '{option}'{hint}")
    try:
        with greetings_dropped():
            game = adopted(function(**options), name) if own else function(rest, **options)
        quick = not own and not name.startswith("spiel/")  # trees take longer to build than to send
        if name not in _REGISTERED and (isinstance(game, HostEnvironment) or quick):
            game.origin = (name, dict(options))
        return game
    except UsageError:
        raise
    except Exception as error:  # whatever a suite makes of values that it cannot use
        if not options or own:
            raise
        given = ", ".join(f"{key}={value}" for key, value in options.items())
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"'{name}' cannot be made with {given}: {reason}") from error


def adopted(game: Any, name: str) -> Any:
    """What somebody's own function made: a game of Ludus as it is, one of Gymnasium or PettingZoo in its adapter."""
    if isinstance(game, HostEnvironment) or isinstance(getattr(game, "spec", None), GameSpec):
        return game
    if hasattr(game, "possible_agents") or hasattr(game, "agent_iter") or hasattr(game, "agents"):
        wrapped: Any = suite("pettingzoo").wrap(game, name)
        return wrapped
    if hasattr(game, "observation_space") and hasattr(game, "step"):
        return suite("gymnasium").GymnasiumGame(game, name)
    raise UsageError(
        f"'{name}' made a {type(game).__name__}, which is no environment of Ludus, Gymnasium or PettingZoo"
    )


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
