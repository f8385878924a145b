"""A league as a run: configuration, directory, start, resume, and what came of it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w

from ludus.algorithms.registry import name_of
from ludus.core.errors import UsageError
from ludus.envs.registry import make
from ludus.experiment.config import read_toml
from ludus.experiment.interrupt import Interrupt, Interrupted
from ludus.experiment.league_config import LeagueConfig, resolve_league
from ludus.experiment.run_directory import versions
from ludus.league.arena_device import DeviceArena
from ludus.league.arena_exact import ExactArena
from ludus.league.evaluator import tree_of
from ludus.league.league import Generation, League, Plan
from ludus.league.member import EXACT, Member
from ludus.league.presets import Choice, plan, preset, roles_of
from ludus.league.ratings import ratings
from ludus.league.stored import unpack
from ludus.runtime.programs import placed
from ludus.runtime.setup import configure
from ludus.storage.files import write_atomically
from ludus.storage.ledger import Ledger
from ludus.storage.lock import DirectoryLock
from ludus.storage.policy_store import PolicyStore

MakePlan = Callable[[dict[str, str], Choice], Plan]  # from team -> role, and what the settings say

CONFIG, LEDGER, POLICIES = "league.toml", "ledger.sqlite", "policies"


def is_league(path: Path) -> bool:
    """Whether a directory holds a league; what cannot be looked at (a name too long) holds none."""
    return os.path.isfile(path / CONFIG)


def league_arena(
    run: LeagueRun, members: tuple[Member, ...], steps: int, seed: int | None = None, **options: Any
) -> DeviceArena:
    """An arena beside a league's own: other members train in its game against its frozen policies. What they begin
    from depends on `seed` (default: the league's)."""
    s = run.config.settings
    seed = s.seed if seed is None else seed
    arena = DeviceArena(run.env, run.store, run.roles, members, steps, s.num_envs, seed, **options)
    for e in run.league.population:
        arena.admit(e.name, e.role, e.file)
    return arena


@dataclass
class LeagueRun:
    """A league in its directory, or in memory; `run` goes on to its end."""

    config: LeagueConfig
    path: Path | None = None
    watch: Callable[[Generation], None] | None = None
    say: Callable[[str], None] = lambda text: None
    read_only: bool = False
    own_plan: MakePlan | None = None  # instead of the preset's

    @cached_property
    def env(self) -> Any:
        """The game."""
        return make(self.config.environment, **self.config.options)

    @cached_property
    def roles(self) -> dict[str, str]:
        """team -> role."""
        return roles_of(self.env.spec, self.config.settings.roles, self._preset)

    @property
    def _preset(self) -> Any:
        found = preset(self.config.preset)
        exact = self.config.oracle == EXACT
        return dataclasses.replace(found, roles="separate") if exact else found

    @cached_property
    def plan(self) -> Plan:
        """Members and meta-solver."""
        s = self.config.settings
        given = {f.name: getattr(s, f.name) for f in dataclasses.fields(Choice) if f.name != "oracle"}
        choice = Choice(self.config.oracle, **given)
        if self.own_plan is not None:
            return self.own_plan(self.roles, choice)
        return plan(self.config.preset, self.roles, choice)

    @cached_property
    def store(self) -> PolicyStore:
        """Policies by content."""
        build = (lambda arrays, metadata, name: arrays) if self.config.oracle == EXACT else unpack
        return PolicyStore(None if self.path is None else self.path / POLICIES, build)

    @cached_property
    def arena(self) -> Any:
        """Where members learn and play."""
        s = self.config.settings
        if self.config.oracle == EXACT:
            tree = tree_of(self.env)
            if tree is None:
                raise UsageError(
                    f"{self.env.spec.name} has no tree to compute best responses in; take a learner: --oracle ppo"
                )
            return ExactArena(self.env.spec, tree, self.store, self.roles, self.plan.members, s.first)
        return DeviceArena(
            self.env,
            self.store,
            self.roles,
            self.plan.members,
            s.steps,
            s.num_envs,
            s.seed,
            s.slots,
            s.devices,
            placement=placed(s),
            say=self.say,
        )

    @cached_property
    def league(self) -> League:
        """Everything that the ledger says."""
        ledger = Ledger(None if self.path is None else self.path / LEDGER, read_only=self.read_only)
        ledger.verify()
        s = self.config.settings
        return League(
            self.arena,
            self.plan,
            ledger,
            self.store,
            s.seed,
            s.generations,
            self.watch or (lambda generation: None),
            self.say,
        )

    def run(self, interrupt: Interrupt | None = None) -> LeagueRun:
        """Go on to the end. Raises `Interrupted` where a stop is asked for; whole generations are kept."""
        work = (lambda task: task()) if interrupt is None else interrupt.run
        work(self.league.resume)
        while not self.league.done:
            if interrupt is not None and interrupt.asked:
                raise Interrupted(130)
            work(self.league.advance)
        return self

    def begun(self) -> LeagueRun:
        """Itself. Raises `UsageError` before the first generation."""
        if self.league.generation < 0:
            raise UsageError(f"{self.path} has no generation yet; go on with: ludus league resume {self.path}")
        return self

    def ratings(self) -> dict[str, dict[str, float]]:
        """Of all frozen policies, by kind of rating."""
        return ratings(self.league.population, self.league.table, self.env.spec.teams, self.roles)

    def to_dict(self) -> dict[str, Any]:
        """As printed by `--json`."""
        league = self.league
        return {
            "run": None if self.path is None else str(self.path),
            "preset": self.config.preset,
            "environment": self.config.environment,
            "oracle": EXACT if self.config.oracle == EXACT else name_of(self.config.oracle),
            "generation": league.generation,
            "members": [dataclasses.asdict(e) for e in league.population],
            "ratings": self.ratings(),
            "meta_strategy": league.mixtures,
            "joint": None if league.joint is None else [[list(p), w] for p, w in league.joint.items()],
            "nash_conv": league.history[-1]["nash_conv"] if league.history else None,
            "exploitability": _per_player(league.history[-1]["nash_conv"] if league.history else None, self.env.spec),
            "history": [{k: h[k] for k in ("generation", "nash_conv", "steps", "policies")} for h in league.history],
            "ledger": league.ledger.head,
        }


def _per_player(gap: float | None, spec: Any) -> float | None:
    return None if gap is None else gap / len(spec.teams)


def default_path(config: LeagueConfig) -> Path:
    """A new name under `runs/`."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"league-{config.preset}-{config.environment}").strip("-")
    base = Path("runs") / f"{name}-s{config.settings.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, n = base, 1
    while path.exists():
        path, n = base.with_name(f"{base.name}-{n}"), n + 1
    return path


def run_league(
    config: LeagueConfig,
    path: Path | None,
    *,
    watch: Callable[[Generation], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> LeagueRun:
    """Run a resolved league in a fresh directory."""
    configure()
    trial = LeagueRun(config)
    trial.arena  # noqa: B018  refuse before anything is written
    path = path or default_path(config)
    lock = DirectoryLock(path)
    try:
        if (path / CONFIG).exists():
            raise UsageError(f"{path} already holds a league; continue it with: ludus league resume {path}")
        if (path / "config.toml").exists():
            raise UsageError(f"{path} already holds a run of another kind")
        write_atomically(path / "versions.json", json.dumps(versions(), indent=2).encode())
        write_atomically(path / CONFIG, tomli_w.dumps(config.to_dict()).encode())
        return _run(LeagueRun(config, path, watch, say))
    finally:
        lock.release()


def resume_league(
    path: Path,
    *,
    generations: int | None = None,
    watch: Callable[[Generation], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> LeagueRun:
    """Go on with a league from its last whole generation, to `generations` if they are more than were planned."""
    configure()
    run = open_league(path)
    lock = DirectoryLock(path)
    try:
        if generations is not None:
            if generations < 1:
                raise UsageError(f"--generations must be at least 1, not {generations}")
            settings = dataclasses.replace(run.config.settings, generations=generations)
            run = LeagueRun(dataclasses.replace(run.config, settings=settings), path)
            write_atomically(path / CONFIG, tomli_w.dumps(run.config.to_dict()).encode())
        run.watch, run.say, run.read_only = watch, say, False
        return _run(run)
    finally:
        lock.release()


def _run(run: LeagueRun) -> LeagueRun:
    where = placed(run.config.settings)
    with Interrupt() as interrupt:
        try:
            return run.run(interrupt) if where.runtime == "local" else _run_in_cluster(run, where, interrupt)
        except Interrupted as stop:
            stop.run = str(run.path)
            raise


def _run_in_cluster(run: LeagueRun, where: Any, interrupt: Interrupt) -> LeagueRun:
    """Let an actor of the cluster, which is begun again when it dies, go on to the end; the ledger is its memory."""
    from ludus.runtime.ray.keeper import Kept

    kept = Kept(f"league-{run.path}", f"{__name__}:in_cluster", (str(Path(str(run.path)).absolute()),), where)
    try:
        while not interrupt.run(lambda: kept.call("done")):
            if interrupt.asked:
                raise Interrupted(130)
            before = kept.deaths
            for generation in interrupt.run(lambda: kept.call("advance")):
                (run.watch or (lambda generation: None))(generation)
            if kept.deaths > before:
                run.say("the league's process died; another went on from the ledger")
    finally:
        kept.close()
    return open_league(str(run.path))


class _InCluster:
    """A league in an actor's process."""

    def __init__(self, path: str):
        opened = open_league(path)
        self._told: list[Generation] = []
        self._run = LeagueRun(opened.config, opened.path, self._told.append)
        self._run.league.resume()

    def done(self) -> bool:
        """Whether all generations are written."""
        return self._run.league.done

    def advance(self) -> list[Generation]:
        """Play the next generation."""
        self._told.clear()
        if not self._run.league.done:
            self._run.league.advance()
        return list(self._told)


def in_cluster(path: str) -> _InCluster:
    """The league of a directory, for whoever keeps it; its lock is held by who asked for it."""
    return _InCluster(path)


def open_league(path: str | Path) -> LeagueRun:
    """A league to read."""
    configure()
    path = Path(path)
    if not (path / CONFIG).is_file():
        kind = "an ordinary run" if (path / "config.toml").is_file() else "no league"
        raise UsageError(f"{path} holds {kind} (there is no {CONFIG} in it)")
    tables = read_toml(path / CONFIG)
    try:
        name, environment = tables["preset"], tables["environment"]["name"]
        oracle = tables["algorithm"]["name"]
        changes = {k: tables[k] for k in ("algorithm", "environment", "settings")}
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path / CONFIG} does not name its preset, environment and oracle") from error
    config = resolve_league(name, environment, oracle=oracle, changes=changes)
    return LeagueRun(config, path, read_only=True)


def league(
    name: str,
    environment: str,
    *,
    oracle: Any = None,
    options: Mapping[str, Any] | None = None,
    run_dir: str | Path | None = None,
    watch: Callable[[Generation], None] | None = None,
    plan: MakePlan | None = None,
    **settings: Any,
) -> LeagueRun:
    """Run a league and return it.

    With a `plan`, members and meta-solver are its own, and the preset says the rest; such a league lives in memory.

    `oracle` is an algorithm such as `PPO(entropy_weight=0.01)`, its name, or `"exact"`. `settings` are the fields of
    `LeagueSettings`: generations, steps, meta_solver, … Without `run_dir` it is kept in memory alone.
    """
    configure()
    changes = {"environment": dict(options or {}), "settings": settings}
    given = oracle if isinstance(oracle, str | None) else name_of(oracle)
    config = resolve_league(name, environment, oracle=given, changes=changes)
    if oracle is not None and not isinstance(oracle, str):
        config = dataclasses.replace(config, oracle=oracle)
    if plan is not None and run_dir is not None:
        raise UsageError("a league with a plan of its own cannot be resumed by name, so it takes no run_dir")
    if run_dir is None:
        return LeagueRun(config, None, watch, own_plan=plan).run()
    return run_league(config, Path(run_dir), watch=watch)
