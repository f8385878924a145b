"""Leagues of learners on the device: several members in one program, frozen opponents stacked, all pairs at once."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ludus.core.algorithm import Learner
from ludus.core.errors import NotFiniteError, UsageError
from ludus.core.host import HostEnvironment
from ludus.core.spec import GameSpec
from ludus.league.arena import DamagedPolicyError, Job, Trained
from ludus.league.evaluator import Evaluator
from ludus.league.learners import (
    Policies,
    apart,
    beside,
    check_alike,
    new_optimiser,
    stack,
    with_policies,
    without_exploring,
)
from ludus.league.member import COPY, FRESH, Member
from ludus.league.meta_solvers import Meta
from ludus.league.payoffs import Cell, Profile
from ludus.league.stored import pack, unpack
from ludus.league.view import LIVE, SELF
from ludus.runtime.cast import LEARNER, Matches, Opposition, Records
from ludus.runtime.device import settled
from ludus.runtime.finite import CLEAN
from ludus.runtime.programs import Placement, program_for
from ludus.storage.arrays import DamagedFileError, flatten, unflatten
from ludus.storage.policy_store import PolicyStore


@dataclass
class DeviceArena:
    """A device-native game."""

    env: Any  # a game for the device, or for the host
    store: PolicyStore  # that builds `Policies`
    roles: dict[str, str]
    members: tuple[Member, ...]
    steps: int  # environment steps of a member in a generation
    num_envs: int = 128
    seed: int = 0
    slots: int = 16  # frozen policies of a role that one generation's training may meet
    devices: int = 1
    exact: bool = True  # whether payoffs of games that are trees are computed instead of sampled
    placement: Placement = field(default_factory=Placement)
    say: Callable[[str], None] = lambda text: None

    _files: dict[str, str] = field(default_factory=dict)
    _roles: dict[str, str] = field(default_factory=dict)  # of entries
    _templates: dict[str, Any] = field(default_factory=dict)  # by group: some policy of its structure
    _held: dict[str, Policies] = field(default_factory=dict)  # that belong to no population
    _learners: dict[str, Learner] = field(default_factory=dict)  # of each member, without a seed axis
    _programs: dict[Any, tuple[Any, Any]] = field(default_factory=dict)
    _resting: list[Any] = field(default_factory=list)  # programs that may hold processes, the last used last

    def __post_init__(self) -> None:
        self._members = {m.name: m for m in self.members}
        if len(set(self.roles.values())) not in (1, len(self.roles)):
            raise UsageError("one role plays all teams, or every team has a role of its own")
        if self.shared and self.num_envs < len(self.roles):
            raise UsageError(
                f"{self.num_envs} environments are too few for {self.spec.name}: a role that plays all "
                f"{len(self.roles)} teams learns a seat in each, so it needs at least as many"
            )
        if self.shared and len(self.spec.groups) > 1:
            raise UsageError(
                f"the teams of {self.spec.name} have groups of their own, so one role cannot play them all"
            )

    @property
    def spec(self) -> GameSpec:
        """The game."""
        return self.env.spec

    @property
    def one_by_one(self) -> bool:
        """Whether members train one after the other, because their environments are processes."""
        return isinstance(self.env, HostEnvironment) or self.placement.runtime != "local"

    @property
    def shared(self) -> bool:
        """Whether one role plays all teams."""
        return len(set(self.roles.values())) == 1

    @property
    def exact_payoffs(self) -> bool:
        """Whether payoffs are computed."""
        return self.exact and self._evaluator.tree is not None

    def groups_of(self, role: str) -> tuple[str, ...]:
        """The groups that a role plays, or plays in."""
        teams = [team for team, own in self.roles.items() if own == role]
        return tuple(g.name for g in self.spec.groups if set(teams) & set(g.teams))

    # Policies by name

    def admit(self, name: str, role: str, file: str, member: str = "") -> None:
        """See `Arena.admit`."""
        self._files[name], self._roles[name] = file, role

    def hold(self, name: str, role: str, trained: Trained) -> None:
        """Know a policy that belongs to no population."""
        self._roles[name] = role
        self._held[name] = unpack(trained.arrays, trained.metadata, name)

    def check_structure(self, member: Member) -> None:
        """Raise `UsageError` where a member's policies cannot play beside the frozen ones of its role."""
        names = [n for n, role in self._roles.items() if role == member.role and n in self._files][-1:]
        for group in self.groups_of(member.role):
            check_alike([self._template(group), *(self.policies(n)[group] for n in names)], group)

    def policies(self, name: str) -> Policies:
        """Of an entry, or of `@member` as it is now. Raises `DamagedPolicyError` for a damaged file."""
        if name.startswith(LIVE):
            member = self._members[name.removeprefix(LIVE)]
            live: Policies = member.algorithm.policy(self._learner(member))
            return live
        if name in self._held:
            return self._held[name]
        try:
            found: Policies = self.store.get(self._files[name])
        except DamagedFileError as error:
            raise DamagedPolicyError(name, error) from error
        return found

    # Learning

    def prepare(self) -> None:
        """See `Arena.prepare`: the program that trains first does."""
        self._program(self.members[0], 1)[0].prepare()

    def start(self, member: Member, seed: int) -> Trained:
        """See `Arena.start`: what the member's algorithm acts with before it learned anything."""
        return self._frozen(member, self._fresh(member, seed), 0, {}, {})

    def _fresh(self, member: Member, seed: int) -> Learner:
        program, _ = self._program(member, 1)
        against = self._opposition(member, [], 1)
        state = program.fresh(jax.random.split(jax.random.key(seed), 1), against)
        return apart(state.learner, 1)[0]

    def _program(self, member: Member, count: int) -> tuple[Any, Any]:
        key = (member.algorithm, member.role, count)
        if key not in self._programs:
            devices = self.devices
            while devices > 1 and count % devices and self.num_envs % devices:
                devices -= 1
            program = program_for(
                member.algorithm,
                self.env,
                self.num_envs,
                self.steps,
                count,
                devices,
                learns=self.groups_of(member.role),
                placement=self.placement,
                seed=self.seed,
                say=self.say,
            )
            self._programs[key] = (program, {})
        return self._programs[key]

    def _learner(self, member: Member) -> Learner:
        """What a member knows."""
        if member.name not in self._learners:
            self._learners[member.name] = self._fresh(member, zlib.crc32(member.name.encode()) ^ self.seed)
        return self._learners[member.name]

    def _template(self, group: str) -> Any:
        """A policy of a group with the right structure, and nothing in it."""
        if group not in self._templates:
            member = next(m for m in self.members if group in self.groups_of(m.role))
            spec = self.spec.restrict(self.groups_of(member.role))
            algorithm: Any = member.algorithm
            begun = lambda key: algorithm.policy(algorithm.init(spec, self.num_envs, key=key))
            shapes = jax.eval_shape(begun, jax.random.key(0))
            self._templates.update(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
        return self._templates[group]

    def _opposition(self, member: Member, jobs: list[Job], count: int) -> Opposition:
        """Whom the jobs of one program meet, in as many slots and profiles as always."""
        names = list(dict.fromkeys(n for job in jobs for p in job.match.profiles for n in p if n != SELF))
        frozen: dict[str, Any] = {}
        index: dict[str, dict[str, int]] = {}
        for group in self.spec.groups:
            if not self._met(member, group.name):
                continue
            playing = [n for n in names if group.name in self.groups_of(self._role(n))]
            parts = [self.policies(n)[group.name] for n in playing] or [self._template(group.name)]
            size = self.slots
            while size < len(parts):
                size *= 2
            frozen[group.name] = stack(parts, size, group.name)
            index[group.name] = {n: k for k, n in enumerate(playing)}
        rows = 1
        while rows < max([self.slots, *(len(job.match.profiles) for job in jobs)]):
            rows *= 2
        teams = [i for i, team in enumerate(self.spec.teams) if self.roles[team] == member.role]
        others = len(self.spec.teams) - 1
        profiles = np.zeros((count, rows, others), np.int32)
        weights = np.zeros((count, rows), np.float32)
        for k, job in enumerate(jobs):
            for row, profile in enumerate(job.match.profiles):
                for d, name in enumerate(profile):
                    where = self._group_of_team((teams[0] + 1 + d) % len(self.spec.teams))
                    profiles[k, row, d] = LEARNER if name == SELF else index[where][name]
            weights[k, : len(job.match.weights)] = job.match.weights
        weights[len(jobs) :, 0] = 1.0
        progress = np.array([job.progress for job in jobs] or [(0.0, 0.0)] * count, np.float32)
        named = jobs[0].match.settings if jobs else ()
        settings = {n: np.array([job.match.settings[n] for job in jobs], np.float32) for n in named}
        seats = np.broadcast_to(np.array(teams, np.int32), (count, len(teams)))
        arrays: Any = (profiles, weights, seats, progress, settings)
        return Opposition(frozen, Matches(*jax.tree.map(jnp.asarray, arrays)))

    def _met(self, member: Member, group: str) -> bool:
        """Whether others play in a group."""
        teams = self.spec.group(group).teams
        return any(self.roles[t] != member.role for t in teams) or (self.shared and len(self.spec.teams) > 1)

    def _group_of_team(self, team: int) -> str:
        return next(g.name for g in self.spec.groups if self.spec.teams[team] in g.teams)

    def _role(self, name: str) -> str:
        return self._members[name.removeprefix(LIVE)].role if name.startswith(LIVE) else self._roles[name]

    def train(self, jobs: list[Job]) -> list[Trained]:
        """See `Arena.train`: jobs of one algorithm and role are one program; all meet members as they were before."""
        found: dict[int, Trained] = {}
        after: dict[str, Learner] = {}
        batches: dict[Any, list[int]] = {}
        for k, job in enumerate(jobs):
            alone = k if self.one_by_one else 0
            batches.setdefault((job.member.algorithm, job.member.role, tuple(job.match.settings), alone), []).append(k)
        for indices in batches.values():
            for k, (learner, trained) in zip(indices, self._train([jobs[k] for k in indices]), strict=True):
                found[k] = trained
                after[jobs[k].member.name] = learner
        self._learners.update(after)
        return [found[k] for k in range(len(jobs))]

    def _train(self, jobs: list[Job]) -> list[tuple[Learner, Trained]]:
        member = jobs[0].member
        program, compiled = self._program(member, len(jobs))
        against = self._opposition(member, jobs, len(jobs))
        if self.one_by_one:
            self._make_room(program)
        learners = [self._from(job) for job in jobs]
        keys = jnp.stack([jax.random.key(job.seed) for job in jobs])
        state = program.begin(beside(learners), keys, against)
        state = program.place(state)
        shapes = tuple(x.shape for x in jax.tree.leaves(against))
        if shapes not in compiled:
            compiled[shapes] = program.compile(state, against)
        total: Any = None
        losses: Any = None
        for _ in range(program.calls):
            state, report = jax.block_until_ready(compiled[shapes](state, against))
            records = jax.tree.map(lambda x: np.asarray(x, float), report.episodes.records)
            total = records if total is None else jax.tree.map(np.add, total, records)
            losses = report.metrics
            self._stop_if_bad(report, jobs)
        state = program.fetch(state)
        if self.one_by_one:
            compiled.clear()
            program.rest()
        steps = program.calls * program.steps_per_call
        found = []
        for k, (job, learner) in enumerate(zip(jobs, apart(state.learner, len(jobs)), strict=True)):
            own = jax.tree.map(lambda x, k=k: x[k], total)
            mean = {name: float(x[k]) for name, x in losses.items()}
            found.append((learner, self._frozen(job.member, learner, steps, self._cells(job, own), mean)))
        return found

    def _make_room(self, program: Any) -> None:
        """Of programs that rest, keep the one that trained last and the one that will."""
        others = [p for p in self._resting if p is not program]
        for old in others[:-1]:
            old.close()
        self._resting = [*others[-1:], program]

    def _stop_if_bad(self, report: Any, jobs: list[Job]) -> None:
        for group, first in report.bad.items():
            for k, where in enumerate(np.asarray(first)):
                if where != CLEAN:
                    raise NotFiniteError(
                        f"a reward or observation of group '{group}' in {self.spec.name} is not finite while "
                        f"'{jobs[k].member.name}' trains; the league stopped, all whole generations are kept"
                    )

    def _from(self, job: Job) -> Learner:
        """What a job's training begins from."""
        learner = self._learner(job.member)
        if job.match.start is None:
            return learner
        return with_policies(job.member, self._fresh(job.member, job.seed), self.policies(job.match.start))

    def _frozen(self, member: Member, learner: Learner, steps: int, cells: dict[Profile, Cell], losses: Any) -> Trained:
        policies = {name: without_exploring(p) for name, p in settled(member.algorithm, learner).items()}
        groups = self.groups_of(member.role)
        architectures = {g: member.algorithm.architecture(self.spec.group(g)) for g in groups}
        arrays, metadata = pack(policies, architectures)
        return Trained(arrays, metadata, steps, cells, losses)

    def _cells(self, job: Job, records: Records) -> dict[Profile, Cell]:
        """Games of training, by who played each team."""
        teams, live = len(self.spec.teams), LIVE + job.member.name
        found: dict[Profile, Cell] = {}
        for row, profile in enumerate(job.match.profiles):
            for seat in range(teams):
                games = float(records.games[row, seat])
                if games == 0:
                    continue
                names = [live if n == SELF else n for n in profile]
                whole = tuple(live if t == seat else names[(t - seat) % teams - 1] for t in range(teams))
                cell = Cell(games, records.returns[row, seat], records.squares[row, seat], records.scores[row, seat])  # type: ignore[arg-type]
                old = found.get(whole)
                if old is not None:
                    cell = Cell(
                        old.games + cell.games,
                        old.returns + cell.returns,
                        old.squares + cell.squares,
                        old.scores + cell.scores,
                    )
                found[whole] = cell
        return found

    def reset(self, member: Member, answer: str, seed: int) -> None:
        """See `Arena.reset`."""
        fresh = self._fresh(member, seed)
        if answer == FRESH:
            self._learners[member.name] = fresh
        elif answer.startswith(COPY):
            self._learners[member.name] = self._learner(self._members[answer.removeprefix(COPY)])
        elif answer.startswith(LIVE):
            self._learners[member.name] = new_optimiser(self._learner(self._members[answer.removeprefix(LIVE)]), fresh)
        else:
            self._learners[member.name] = with_policies(member, fresh, self.policies(answer))

    # What policies earn

    @cached_property
    def _evaluator(self) -> Evaluator:
        plays = lambda name: [i for i, t in enumerate(self.spec.teams) if self.roles[t] == self._role(name)]
        return Evaluator(self.env, self.policies, plays, self.placement)

    def evaluate(self, profiles: list[Profile], games: int, seed: int) -> list[Cell]:
        """See `Arena.evaluate`: computed where the game is a tree, else played."""
        exact = self.exact_payoffs
        return self._evaluator.exact(profiles) if exact else self._evaluator.played(profiles, games, seed)

    def nash_conv(
        self, mixtures: dict[str, dict[str, float]], joint: dict[Profile, float] | None, told: bool = False
    ) -> float | None:
        """See `Arena.nash_conv`."""
        return self._evaluator.nash_conv(mixtures, joint, told) if self._evaluator.tree is not None else None

    def least_exploitable(self, names: list[list[str]]) -> Meta:
        """Learners find it themselves: see `ludus.league.anytime`."""
        raise UsageError("the least exploitable mixture is computed in leagues of exact best responses only")

    # What lasts

    def save(self) -> dict[str, Any]:
        """See `Arena.save`."""
        return {name: self.store.put(flatten(x), {"kind": "learner"}) for name, x in self._learners.items()}

    def restore(self, saved: dict[str, Any]) -> dict[str, Exception]:
        """See `Arena.restore`."""
        failed: dict[str, Exception] = {}
        for name, file in saved.items():
            like = self._fresh(self._members[name], 0)
            try:
                self._learners[name] = unflatten(like, self.store.content(file)[0], name)
            except DamagedFileError as error:
                failed[name] = error
        return failed
