"""The configuration of a league, from defaults, shipped presets, a TOML file and flags."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from ludus.core.errors import UsageError, nearest
from ludus.experiment.config import Config, Settings, check_options, check_ranges, merge, read_toml, resolve
from ludus.league.member import EXACT
from ludus.league.presets import preset
from ludus.runtime.programs import Placement


@dataclass(frozen=True)
class LeagueSettings(Placement):
    """What a league needs besides its preset, its game and its oracle."""

    generations: int = 10
    """How many generations; each trains every member and is written as a whole."""
    steps: int = 100_000
    """Environment steps of every member in a generation."""
    num_envs: int = 128
    """Environments that run in parallel, of every member."""
    seed: int = 0
    """It fixes everything random."""
    roles: Literal["auto", "shared", "separate"] = "auto"
    """One population whose policies take every seat, or one for each team."""
    meta_solver: str = ""
    """How the meta-strategy is found: nash, uniform, last, fictitious-play, regret-matching, replicator,
    projected-replicator, alpha-rank, ce, cce (default: the preset's)."""
    games: int = 1000
    """Episodes of each pair of frozen policies, where payoffs are not computed; 0: only those of training count."""
    window: int = 0
    """The meta-solver sees only so many of the newest policies of each role; 0: all."""
    slots: int = 16
    """Frozen policies that one generation's training has room for; more are made room for as they come."""
    mains: int = 1
    """Main agents of each role (alphastar, tstarbot, scc); members (pbt, at least 4); levels (psro --pipeline)."""
    exploiters: Literal["all", "main", "none"] = "all"
    """Which exploiters alphastar's league has."""
    period: int = 2
    """Generations before main agents freeze, and before exploiters may; they must after twice as many."""
    rectified: bool = False
    """PSRO: one best response for each policy that the meta-strategy plays, to those that it beats."""
    pipeline: bool = False
    """PSRO: several best responses at once, each to those below it too (P2SRO)."""
    warm: bool = False
    """PSRO: best responses go on from the last one instead of beginning anew: many short generations."""
    first: Literal["first", "uniform"] = "first"
    """Where exact populations begin: everybody's first action, or uniform play."""
    devices: int = 1
    """Devices to spread members or environments over."""


@dataclass(frozen=True)
class LeagueConfig:
    """A league, resolved."""

    preset: str
    environment: str
    oracle: Any  # an algorithm, or EXACT
    options: dict[str, Any] = field(default_factory=dict)
    settings: LeagueSettings = field(default_factory=LeagueSettings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to `league.toml`."""
        plain = Config(self.oracle, self.environment, self.options).to_dict() if self.oracle != EXACT else None
        return {
            "preset": self.preset,
            "environment": {"name": self.environment, **self.options},
            "algorithm": {"name": EXACT} if plain is None else plain["algorithm"],
            "settings": dataclasses.asdict(self.settings),
        }


def shipped(name: str, environment: str) -> dict[str, Any]:
    """The shipped settings of a league preset in a game: `[PRESET."suite/name"]`, else `[PRESET.suite]`."""
    file = resources.files("ludus.experiment") / "leagues.toml"
    tables = tomllib.loads(file.read_text()).get(name, {})
    found: dict[str, Any] = tables.get(environment, tables.get(environment.partition("/")[0], {}))
    return found


def resolve_league(
    name: str,
    environment: str,
    *,
    oracle: str | None = None,
    file: Path | None = None,
    changes: dict[str, Any] | None = None,
) -> LeagueConfig:
    """Defaults, shipped presets (of the oracle, then of the league), a file, and `changes`, in this order.

    Tables are `algorithm`, `environment` and `settings`.
    """
    layers = [shipped(name, environment), read_toml(file) if file else {}, changes or {}]
    for layer in layers:
        for table in layer:
            if table not in ("preset", "algorithm", "environment", "settings"):
                known = ["algorithm", "environment", "settings"]
                raise UsageError(f"a league's configuration has no table [{table}]{nearest(table, known)}")
    chosen = oracle
    for layer in layers:
        chosen = oracle or layer.get("algorithm", {}).get("name", chosen)
    chosen = chosen or preset(name).oracle
    preset(name)
    settings = LeagueSettings()
    options: dict[str, Any] = {}
    algorithm: Any = EXACT
    if chosen != EXACT:
        base, _ = resolve(chosen, environment)
        algorithm, options = base.algorithm, dict(base.options)
        if base.settings.num_envs != Settings().num_envs:
            settings = dataclasses.replace(settings, num_envs=base.settings.num_envs)
    for layer in layers:
        own = {k: v for k, v in layer.get("algorithm", {}).items() if k != "name"}
        if own and algorithm != EXACT and layer.get("algorithm", {}).get("name", chosen) == chosen:
            algorithm = merge(algorithm, own, "algorithm")
        given = {k: v for k, v in layer.get("environment", {}).items() if k != "name"}
        options |= check_options(environment, given)
        settings = merge(settings, layer.get("settings", {}), "settings")
    if algorithm != EXACT:
        check_ranges(Config(algorithm, environment, options))
    for number in ("generations", "steps", "num_envs", "slots", "mains", "period", "devices"):
        if getattr(settings, number) < 1:
            raise UsageError(f"settings.{number} must be at least 1, not {getattr(settings, number)}")
    for number in ("seed", "games", "window"):
        if getattr(settings, number) < 0:
            raise UsageError(f"settings.{number} must be at least 0, not {getattr(settings, number)}")
    return LeagueConfig(name, environment, algorithm, options, settings)
