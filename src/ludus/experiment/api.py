"""The Python face: `train`, `resume`, `evaluate`, `load`, `load_policy`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ludus.core.errors import UsageError, nearest
from ludus.core.spec import GameSpec
from ludus.envs import registry
from ludus.experiment.config import Config, Settings, merge, read_toml, resolve
from ludus.experiment.console import Display, Quiet
from ludus.experiment.evaluate import Evaluation, Match, random_policies
from ludus.experiment.interrupt import Interrupt, Interrupted
from ludus.experiment.run_directory import EVALUATIONS, METRICS, RunDirectory
from ludus.experiment.tracking import check_trackers
from ludus.experiment.train import Run, Trainer
from ludus.networks.acting import Acts
from ludus.networks.build import build
from ludus.runtime.setup import available, configure
from ludus.storage.arrays import DamagedFileError, unflatten
from ludus.storage.policies import load_policy_file


def train(
    algorithm: Any,
    environment: str,
    *,
    options: Mapping[str, Any] | None = None,
    run_dir: str | Path | None = None,
    display: Display | None = None,
    **settings: Any,
) -> Run:
    """Train and return the run.

    `algorithm` is an instance such as `PPO(clip=0.1)`, taken as it is, or a name such as `"ppo"`, which takes the
    shipped preset for the game. `settings` are the fields of `Settings`: steps, num_envs, seed, seeds, …
    """
    configure()
    options = dict(options or {})
    if isinstance(algorithm, str):
        config, _ = resolve(algorithm, environment, flags={"environment": options, "settings": settings})
    else:
        config = Config(algorithm, environment, options, merge(Settings(), settings, "settings"))
    return run_config(config, Path(run_dir) if run_dir else None, display)


def run_config(config: Config, run_dir: Path | None, display: Display | None) -> Run:
    """Train a resolved configuration in a fresh run directory."""
    env = make(config.environment, **config.options)  # refuse before anything is written
    from ludus.experiment.train import program_of

    program = program_of(config, env)
    program.check_memory()
    check_trackers()
    # A run resumes on as many devices as it began on, or its sums would be rounded otherwise.
    if config.settings.runtime == "local":
        config = replace(config, settings=replace(config.settings, devices=program.devices))
    with Interrupt() as interrupt:
        run = RunDirectory.create(run_dir or RunDirectory.default(config), config)
        try:
            return Trainer(run, config, display or Quiet()).start(interrupt)
        except Interrupted as stop:
            stop.run = str(run.path)
            raise
        finally:
            run.close()


def resume(path: str | Path, *, display: Display | None = None) -> Run:
    """Continue an interrupted run from its newest good checkpoint; the result is as if it had never stopped."""
    configure(host_devices=_devices(Path(path)))
    with Interrupt() as interrupt:
        run = RunDirectory.open(Path(path), lock=True)
        try:
            return Trainer(run, run.config(), display or Quiet()).resume(interrupt)
        except Interrupted as stop:
            stop.run = str(run.path)
            raise
        finally:
            run.close()


def _devices(path: Path) -> int | None:
    """On how many host devices a run goes on where it began: read before anything uses JAX."""
    file = path / "config.toml"
    settings = read_toml(file).get("settings") if os.path.isfile(file) else None
    found = settings.get("devices") if isinstance(settings, dict) else None
    return max(found, available()) if isinstance(found, int) and found > 0 else None


def make(name: str, **options: Any) -> Any:
    """The environment of that name; `options` are its own. Raises `UsageError` naming the nearest known thing."""
    configure()  # before its suite uses JAX, which then keeps the devices it has
    return registry.make(name, **options)


def load(path: str | Path) -> Run:
    """A finished run: its policies, configuration and rows."""
    configure()
    run = RunDirectory.open(Path(path), lock=False)
    config = run.config()
    spec = make(config.environment, **config.options).spec
    seeds = range(config.settings.seed, config.settings.seed + config.settings.seeds)
    paths = [run.policy_path(seed, g.name) for seed in seeds for g in spec.groups]
    if not all(p.is_file() for p in paths):
        raise UsageError(f"{path} has no policies yet: it has not finished; go on with: ludus resume {path}")
    policies = [{g.name: load_policy(run.policy_path(seed, g.name)) for g in spec.groups} for seed in seeds]
    return Run(run.path, config, policies, run.rows(METRICS), run.rows(EVALUATIONS))


def load_policy(path: str | Path) -> Acts:
    """A stored policy of one group; it acts without trainer or environment: `policy.act(observation, legal)`."""
    path = Path(path)
    if path.is_dir():
        found = sorted(path.rglob("policies/seed*/*.safetensors")) or sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            names = ", ".join(str(f.relative_to(path)) for f in found[:6]) or "none"
            raise UsageError(f"{path} holds {len(found)} policies ({names}); name one file")
        path = found[0]
    arrays, architecture = load_policy_file(path)
    try:
        return unflatten(build(architecture), arrays, str(path))
    except (KeyError, TypeError) as error:
        raise DamagedFileError(f"{path} was written by another version of Ludus: {error}") from error


def policies_of(source: Any, spec: GameSpec) -> dict[str, Any]:
    """Policies for a game from what a user may give: a dict by group, a run or its path, or `"random"`."""
    if isinstance(source, str) and source == "random":
        return random_policies(spec)
    if isinstance(source, str) and not Path(source).exists() and (hint := nearest(source, ["random"])):
        raise UsageError(f"there is no run '{source}'{hint}")
    if isinstance(source, str | Path):
        source = load(source)
    if isinstance(source, Run):
        _same_groups(source, spec)
    found = source.policy if isinstance(source, Run) else dict(source)
    missing = [g.name for g in spec.groups if g.name not in found]
    if missing:
        raise UsageError(f"no policy for group '{missing[0]}' of {spec.name}; there are: {', '.join(found)}")
    return dict(found)


def _same_groups(run: Run, spec: GameSpec) -> None:
    """Raise `UsageError` where a run's policies see or do something else than this game's groups."""
    shape = lambda g: (g.name, g.size, g.observation.shape, g.action)
    own = make(run.config.environment, **run.config.options).spec
    if not {shape(g) for g in spec.groups} <= {shape(g) for g in own.groups}:
        raise UsageError(
            f"{run.path} was trained in {run.config.environment}, whose groups do not match those of {spec.name}"
        )


def evaluate(
    policies: Any,
    environment: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    episodes: int = 100,
    seed: int = 0,
    explore: bool = False,
    against: Any = None,
) -> Evaluation:
    """Evaluate policies (a dict by group, a run, its path, or "random"), alone or against others; greedy unless
    `explore`."""
    configure()
    if isinstance(policies, str | Path) and policies != "random":
        policies = load(policies)
    if environment is None:
        if not isinstance(policies, Run):
            raise UsageError("evaluate needs the environment's name unless it is given a run")
        environment, options = policies.config.environment, policies.config.options
    env = make(environment, **dict(options or {}))
    if against is not None and len(env.spec.teams) == 1:
        raise UsageError(f"{env.spec.name} has one team only, so nobody can be played against; leave `against` out")
    ours = policies_of(policies, env.spec)
    theirs = None if against is None else policies_of(against, env.spec)
    return Match(env)(ours, episodes, seed, explore=explore, against=theirs)
