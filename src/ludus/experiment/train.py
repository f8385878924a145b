"""Training: the host's loop around the device program, with rows, evaluations, checkpoints and a clean stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ludus.core.errors import NotFiniteError, UsageError
from ludus.envs.registry import make
from ludus.experiment.config import Config, check_ranges
from ludus.experiment.console import Display, Quiet
from ludus.experiment.evaluate import Evaluation, Match, random_policies
from ludus.experiment.interrupt import Interrupt, Interrupted
from ludus.experiment.run_directory import EVALUATIONS, METRICS, TIMING, RunDirectory
from ludus.experiment.tracking import Tracker
from ludus.runtime.device import Report, TrainState
from ludus.runtime.finite import CLEAN
from ludus.runtime.programs import placed, program_for
from ludus.storage.policies import save_policy_file

_UNSAVED = 5.0  # seconds of training that an evaluation, which a stop may cut off, is begun with unsaved


@dataclass
class Run:
    """A finished (or interrupted) run: where it lies, what it learned, what it measured."""

    path: Path
    config: Config
    policies: list[dict[str, Any]]  # of each seed, by group
    history: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]

    @property
    def policy(self) -> dict[str, Any]:
        """The policies of the first seed, by group."""
        return self.policies[0]


def program_of(config: Config, env: Any, say: Callable[[str], None] = lambda text: None) -> Any:
    """The program of a configuration. Raises `UsageError` where algorithm and game do not fit."""
    check_ranges(config)
    s = config.settings
    numbers = (s.num_envs, s.steps, s.seeds, s.devices, s.on_nan)
    return program_for(config.algorithm, env, *numbers, placement=placed(s), seed=s.seed, say=say)


class Trainer:
    """One run from start, or from its newest checkpoint, to its end."""

    def __init__(self, run: RunDirectory, config: Config, display: Display | None = None):
        self.run, self.config = run, config
        self.display: Display = display or Quiet()
        self.env = make(config.environment, **config.options)
        self.program = program_of(config, self.env, self.display.say)
        self.program.prepare()
        self.match = Match(self.env, placed(config.settings))
        self.compile_seconds = self.evaluation_seconds = 0.0
        self.tracker = Tracker(run.path)

    def start(self, interrupt: Interrupt) -> Run:
        """Train from the beginning."""
        state = interrupt.run(lambda: jax.block_until_ready(self.program.init(self.config.settings.seed)))
        return self._loop(interrupt, state, 0)

    def resume(self, interrupt: Interrupt) -> Run:
        """Go on from the newest good checkpoint; rows written after it are dropped and written again."""
        if not self.run.checkpoints.paths():  # it ended before the first: begin anew
            if any(self.run.sizes().values()):
                raise UsageError(
                    f"cannot resume: {self.run.checkpoints.directory} holds no checkpoint, although {self.run.path} "
                    f"has rows of training; nothing was changed"
                )
            self.run.truncate({METRICS: 0, EVALUATIONS: 0})
            return self.start(interrupt)
        interrupt.run(self.program.check_memory)
        state, metadata = self.run.checkpoints.load(self.program.shapes, self.display.warn)
        self.run.truncate(metadata["sizes"])
        self.display.say(f"resuming {self.run.path} at {metadata['call'] * self.program.steps_per_call:,} steps")
        return self._loop(interrupt, self.program.place(state), metadata["call"], metadata.get("unevaluated", False))

    def _loop(self, interrupt: Interrupt, state: TrainState, call: int, unevaluated: bool = False) -> Run:
        begin = time.monotonic()
        try:
            if call == 0:
                self._checkpoint(state, 0)
            compiled = None
            if call < self.program.calls:  # a finished run has nothing to compile for
                compiled = interrupt.run(lambda: self.program.compile(state))
                self.compile_seconds = time.monotonic() - begin
                self.display.say(f"compiled in {self.compile_seconds:.1f} s")
            if kept := self.program.bytes["experience"]:
                self.display.say(f"replay: {kept / 2**20:,.1f} MiB")
            every, step = self.config.settings.evaluate_every, self.program.steps_per_call
            if every and every % step:
                self.display.say(f"evaluations come at the next multiple of {step:,} steps, a call of the program")
            begin, first, saved = time.monotonic(), call, time.monotonic()
            evaluated = self._evaluations_due(call)
            if unevaluated:
                self._timed_evaluation(interrupt, state, call)
            while call < self.program.calls:
                if interrupt.asked:
                    self._checkpoint(state, call)
                    raise Interrupted(130)
                state, report = interrupt.run(lambda s=state: jax.block_until_ready(compiled(s)))  # type: ignore[misc]
                call += 1
                self._stop_if_bad(report, call)
                elapsed = time.monotonic() - begin - self.evaluation_seconds
                self._row(report, call, (call - first) / elapsed)
                if self._evaluations_due(call) > evaluated or call == self.program.calls:
                    evaluated = self._evaluations_due(call)
                    if time.monotonic() - saved > _UNSAVED:
                        self._checkpoint(state, call, unevaluated=True)
                        saved = time.monotonic()
                    self._timed_evaluation(interrupt, state, call)
                if time.monotonic() - saved > self.config.settings.checkpoint_every:
                    self._checkpoint(state, call)
                    saved = time.monotonic()
            self._checkpoint(state, call)
            timing = {
                "compile_seconds": self.compile_seconds,
                "seconds": time.monotonic() - begin,
                "evaluation_seconds": self.evaluation_seconds,
                "steps": (call - first) * self.program.steps_per_call * self.config.settings.seeds,
                **self.program.facts(),
            }
            self.run.append(TIMING, [timing])
            return self._finish(state)
        finally:
            self.program.close()
            self.display.close()
            self.tracker.close()

    def _evaluations_due(self, call: int) -> int:
        every = self.config.settings.evaluate_every
        return call * self.program.steps_per_call // every if every else 0

    def _row(self, raw: Report, call: int, calls_per_second: float) -> None:
        report: Any = jax.tree.map(np.asarray, raw)
        steps, settings = call * self.program.steps_per_call, self.config.settings
        rows: list[dict[str, Any]] = []
        for k in range(settings.seeds):
            count = float(report.episodes.count[k])
            rows.append(
                {
                    "steps": steps,
                    "seed": settings.seed + k,
                    "episodes": int(count),
                    "return": {n: float(x[k]) / count if count else None for n, x in report.episodes.returns.items()},
                    "length": float(report.episodes.length[k]) / count if count else None,
                    "skipped": int(report.episodes.skipped[k]),
                    "losses": {n: float(x[k]) for n, x in report.metrics.items()},
                }
            )
        self.run.append(METRICS, rows)
        self.tracker.log(rows)
        known = [row for row in rows if row["episodes"]]
        self.display.update(
            {
                "steps": steps,
                "total": self.program.calls * self.program.steps_per_call,
                "rate": calls_per_second * self.program.steps_per_call * settings.seeds,
                "left": (self.program.calls - call) / calls_per_second,
                "compile": self.compile_seconds,
                "returns": {n: np.mean([r["return"][n] for r in known]) for n in rows[0]["return"]} if known else {},
                "losses": {n: np.mean([r["losses"][n] for r in rows]) for n in rows[0]["losses"]},
            }
        )

    def _stop_if_bad(self, report: Report, call: int) -> None:
        places = [(int(x), seed, group) for group, first in report.bad.items() for seed, x in enumerate(first)]
        index, seed, group = min(places, default=(CLEAN, 0, ""))
        if index == CLEAN:
            return
        step, env = divmod(index, self.program.num_envs)
        step += (call - 1) * self.program.iterations_per_call * self.program.algorithm.rollout_length
        raise NotFiniteError(
            f"a reward or observation of group '{group}' in {self.config.environment} is not finite: environment "
            f"{env}, step {step}, seed {self.config.settings.seed + seed}; training stopped, the last good checkpoint "
            f"is kept (--on-nan skip cuts such episodes and goes on)"
        )

    def _timed_evaluation(self, interrupt: Interrupt, state: TrainState, call: int) -> None:
        since = time.monotonic()
        interrupt.run(lambda: self._evaluate(state, call))
        self.evaluation_seconds += time.monotonic() - since

    def _evaluate(self, state: TrainState, call: int) -> None:
        settings, rows = self.config.settings, []
        rivals = any(group.rivals for group in self.env.spec.groups)
        for k in range(settings.seeds):
            result: Evaluation = self.match(
                self.program.policies(state, k),
                settings.evaluate_episodes,
                settings.seed + k,
                explore=settings.evaluate_explore,
                against=random_policies(self.env.spec) if rivals else None,
            )
            rows.append(
                {
                    "steps": call * self.program.steps_per_call,
                    "seed": settings.seed + k,
                    "explore": settings.evaluate_explore,
                    "against": "random" if rivals else None,
                    **result.to_dict(raw=True),
                }
            )
        self.run.append(EVALUATIONS, rows)
        self.tracker.log_evaluations(rows)

    def _checkpoint(self, state: TrainState, call: int, unevaluated: bool = False) -> None:
        self.run.sync()
        about = {"call": call, "sizes": self.run.sizes(), "unevaluated": unevaluated}
        self.run.checkpoints.save(call, self.program.fetch(state), about)

    def _finish(self, state: TrainState) -> Run:
        policies = []
        for k in range(self.config.settings.seeds):
            policies.append(self.program.policies(state, k))
            for group in self.env.spec.groups:
                architecture = self.config.algorithm.architecture(group)
                path = self.run.policy_path(self.config.settings.seed + k, group.name)
                save_policy_file(path, policies[-1][group.name], architecture)
        return Run(self.run.path, self.config, policies, self.run.rows(METRICS), self.run.rows(EVALUATIONS))
