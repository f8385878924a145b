"""The league: one engine for all presets. Members train, are matched, frozen and reset by their rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from ludus.core.errors import UsageError
from ludus.league.arena import Arena, DamagedPolicyError, Job, Trained
from ludus.league.member import COPY, FRESH, Member
from ludus.league.meta_solvers import Meta, MetaSolver
from ludus.league.payoffs import Cell, PayoffTable, Profile
from ludus.league.population import Entry, Population
from ludus.league.view import LIVE, Match, Progress, View
from ludus.storage.ledger import Event, Ledger
from ludus.storage.policy_store import PolicyStore

Result = TypeVar("Result")
MOST_OPPONENTS = 64  # of one match in one generation: of more, so many are drawn, so that memory stays bounded


@dataclass(frozen=True)
class Plan:
    """What a preset says: members, the meta-solver, and how payoffs are measured."""

    members: tuple[Member, ...]
    meta_solver: MetaSolver | None  # None: the arena's own, the least exploitable mixture
    games: int = 1000  # of each cell between frozen policies; 0: only the games of training count
    converges: bool = False  # whether it is over when nobody finds anything new
    window: int = 0  # how many of the newest policies of each role the meta-solver sees; 0: all


@dataclass(frozen=True)
class Generation:
    """What a generation came to, for those who watch."""

    number: int
    matches: dict[str, list[tuple[tuple[str, ...], float]]]  # who trained against whom, the most frequent first
    scores: dict[str, float]  # of each member: the share of its games that it won
    frozen: list[str]
    mixtures: dict[str, dict[str, float]]
    nash_conv: float | None
    seconds: float
    steps: int


@dataclass
class League:
    """Generations until the planned number, or until nothing new is found. Everything is in the ledger."""

    arena: Arena
    plan: Plan
    ledger: Ledger
    store: PolicyStore
    seed: int = 0
    generations: int = 10
    watch: Callable[[Generation], None] = lambda generation: None
    warn: Callable[[str], None] = lambda text: None

    population: Population = field(default_factory=Population)
    table: PayoffTable = field(init=False)
    progress: dict[str, Progress] = field(default_factory=dict)
    mixtures: dict[str, dict[str, float]] = field(default_factory=dict)
    joint: dict[Profile, float] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)  # of generations: meta-strategy, NashConv, …
    generation: int = -1  # the last one that is whole; −1: not even the start
    finished: bool = False
    _learners: dict[str, str] = field(default_factory=dict)  # files of what members know
    _gap: float | None = None
    _told: bool = False  # whether the meta-strategy tells players what to play: see `Meta`
    _measured: set[str] = field(default_factory=set)  # policies whose games against each other are all played

    def __post_init__(self) -> None:
        spec = self.arena.spec
        self.table = PayoffTable(len(spec.teams), spec.reward == "general-sum" and spec.win_return is None)
        self.members = {m.name: m for m in self.plan.members}
        if len(self.members) != len(self.plan.members):
            raise UsageError(f"members' names repeat: {[m.name for m in self.plan.members]}")
        self.progress = {name: Progress() for name in self.members}
        for event in self.ledger.events():
            self._replay(event)

    # Running

    def run(self) -> None:
        """Until the planned number of generations, or until nothing new is found."""
        while not self.done:
            self.advance()

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.finished or self.generation >= self.generations

    def advance(self) -> None:
        """One generation, written as a whole or not at all; the first is the start."""
        begin = time.monotonic()
        number = self.generation + 1
        events = self._start() if number == 0 else self._generation(number)
        steps = sum(p.steps for p in self.progress.values())
        state = self._state(number)
        self.ledger.commit([*events, Event(f"generation/{number}", "generation", state)])
        self.generation = number
        self._forget_learners(state["learners"])
        self.watch(
            Generation(
                number,
                {e.body["member"]: e.body["matches"] for e in events if e.kind == "training"},
                {e.body["member"]: e.body["score"] for e in events if e.kind == "training"},
                [e.body["name"] for e in events if e.kind == "policy"],
                self.mixtures,
                self.history[-1]["nash_conv"],
                time.monotonic() - begin,
                steps,
            )
        )

    def _forget_learners(self, newest: dict[str, str]) -> None:
        """Files of what members knew are kept for the last whole generation only."""
        self._remove_but(newest, self._learners.values())
        self._learners = newest

    def _remove_but(self, learners: dict[str, str], files: Iterable[str]) -> None:
        """Remove those files that neither these learners nor any frozen policy needs."""
        needed = {*learners.values(), *(e.file for e in self.population)}
        for file in files:
            if file not in needed:
                self.store.remove(file)

    def view(self, number: int, salt: int = 0) -> View:
        """What rules see; what they draw depends on seed, generation and `salt` alone."""
        random = np.random.default_rng([self.seed, number, salt])
        return View(
            number,
            self.arena.spec,
            self.arena.roles,
            self.population,
            self.table,
            self.members,
            self.progress,
            self.mixtures,
            self.joint,
            random,
        )

    def _seed(self, *place: int) -> int:
        """The seed of one thing that a generation does."""
        return int(np.random.SeedSequence([self.seed, *place]).generate_state(1)[0])

    # One generation

    def _start(self) -> list[Event]:
        """Every role's population begins with one policy."""
        events = []
        for i, role in enumerate(dict.fromkeys(self.arena.roles.values())):
            member = next(m for m in self.plan.members if m.role == role)
            trained = self.arena.start(member, self._seed(0, i))
            file = self.store.put(trained.arrays, trained.metadata)
            entry = Entry(
                f"{role}:0" if len(set(self.arena.roles.values())) > 1 else "start:0", role, "start", None, 0, 0, file
            )
            events.append(self._admit(entry))
        return [*events, *self._measure(0)]

    def _generation(self, number: int) -> list[Event]:
        events: list[Event] = []
        jobs, trained = self._despite_damage(number, events, lambda: self._train(number))
        events += [self._trained(number, job, result) for job, result in zip(jobs, trained, strict=True)]
        events += self._freeze(number, jobs, trained)
        return [*events, *self._measure(number)]

    def _train(self, number: int) -> tuple[list[Job], list[Trained]]:
        """Every member against whom its rule says."""
        view = self.view(number)
        jobs: list[Job] = []
        for i, member in enumerate(self.plan.members):
            found = member.match(view, member)
            for k, match in enumerate(found if isinstance(found, list) else [found]):
                match = self._playable(match).at_most(MOST_OPPONENTS, view.random)
                jobs.append(Job(member, match, k, self._span(member, number), self._seed(number, i, k)))
        return jobs, self.arena.train(jobs)

    def _despite_damage(self, number: int, events: list[Event], work: Callable[[], Result]) -> Result:
        """Do something again for as long as policies turn out to be damaged; each is named, and plays no more."""
        while True:
            try:
                return work()
            except DamagedPolicyError as error:
                events.append(self._leave_out(number, error))

    def _leave_out(self, number: int, error: DamagedPolicyError) -> Event:
        self.warn(f"{error}; '{error.name}' is left out of matchmaking, its rating is kept")
        self._drop(error.name)
        return Event(f"damaged/{number}/{error.name}", "damaged", {"name": error.name})

    def _drop(self, name: str) -> None:
        """A damaged policy takes part in nothing; where it was all of a mixture, all others of its role do alike."""
        self.population.mark_damaged(name)
        for team, mixture in self.mixtures.items():
            kept = {n: w for n, w in mixture.items() if n != name}
            if not kept:
                kept = {e.name: 1.0 for e in self.population.of(self.arena.roles[team])}
            if not kept:
                raise UsageError(f"no policy of {team} can be read any more: the league cannot go on")
            total = sum(kept.values())
            self.mixtures[team] = {n: w / total for n, w in kept.items()}
        if self.joint is not None:
            left = {p: w for p, w in self.joint.items() if name not in p}
            total = sum(left.values())
            self.joint = {p: w / total for p, w in left.items()} if total > 0 else None

    def _span(self, member: Member, number: int) -> tuple[float, float]:
        """The share of its plan that a member has behind it before and after a generation."""
        if member.span == "league":
            return (number - 1) / self.generations, number / self.generations
        # Who has no plan learns and explores as in the middle of one: exploration that falls has fallen by then.
        return (0.0, 1.0) if member.span == "generation" else (0.5, 0.5)

    def _trained(self, number: int, job: Job, result: Trained) -> Event:
        """Count what a member's training came to."""
        member, progress = job.member, self.progress[job.member.name]
        if job.number == 0:
            progress.generations += 1
            progress.since += 1
        progress.steps += result.steps
        live = LIVE + member.name
        games, won = 0.0, 0.0
        wins: dict[str, float] = {}
        cells = []
        for profile, cell in result.cells.items():
            self.table.add(profile, cell.games, cell.returns, cell.squares, cell.scores, decay=member.decay)
            cells.append(_cell(profile, cell))
            seats = [k for k, name in enumerate(profile) if name == live]
            if len(seats) == 1:
                games, won = games + cell.games, won + float(cell.scores[seats[0]])
                for name in set(profile) - {live}:
                    wins[name] = wins.get(name, 0.0) + float(cell.scores[seats[0]])
        learn = getattr(member.match, "learn", None)
        if learn is not None:
            learn(self.view(number), member, wins)
        order = np.argsort(-job.match.weights, kind="stable")
        body = {
            "member": member.name,
            "generation": number,
            "matches": [[list(job.match.profiles[k]), float(job.match.weights[k])] for k in order],
            "cells": cells,
            "score": won / games if games else 0.5,
            "losses": result.losses,
            "steps": result.steps,
        }
        return Event(f"training/{number}/{member.name}/{job.number}", "training", body)

    def _freeze(self, number: int, jobs: list[Job], trained: list[Trained]) -> list[Event]:
        """All rules are asked before anything changes; then policies are frozen, then members begin anew."""
        events: list[Event] = []
        trains = {job.member.name for job in jobs}
        views = {m.name: self.view(number, 1 + i) for i, m in enumerate(self.plan.members)}
        freezing = [m for m in self.plan.members if m.name in trains and m.freeze(views[m.name], m)]
        answers = {m.name: m.reset(views[m.name], m) for m in freezing}
        for member in freezing:
            progress = self.progress[member.name]
            for job, result in zip(jobs, trained, strict=True):
                if job.member is not member:
                    continue
                file = self.store.put(result.arrays, result.metadata)
                name = f"{member.name}:{self.population.frozen_by(member.name) + 1}"
                parent = job.match.start or progress.parent
                entry = Entry(name, member.role, member.name, parent, number, progress.steps, file)
                events.append(self._admit(entry, job.number))
            kept, answer = events[-1].body["kept"], answers[member.name]
            body = {"member": member.name, "kept": kept, "answer": answer}
            events.append(Event(f"frozen/{number}/{member.name}", "frozen", body))
            progress.since, progress.parent = 0, kept
            if answer is not None:
                progress.resets += 1
                progress.parent = self._begins_at(answer)
        for event in [e for e in events if e.kind == "frozen"]:
            self._inherit(event.body)
        for i, member in enumerate(self.plan.members):
            answer = answers.get(member.name)
            if answer is not None:
                events += self._reset(number, member, answer, self._seed(number, i, 99))
        return events

    def _begins_at(self, answer: str) -> str | None:
        """The entry that a member which begins anew descends from: of another member's policy its newest frozen one."""
        if answer in self.population.entries:
            return answer
        others = [e.name for e in self.population if answer in (LIVE + e.member, COPY + e.member)]
        return others[-1] if others else None

    def _inherit(self, body: dict[str, Any]) -> None:
        """What a frozen policy inherits of its member's record, and what a member that begins anew forgets.

        Games between frozen policies are played anew where there is an evaluation: those of training were against
        a learner that was not yet what it became.
        """
        live = LIVE + body["member"]
        measured = self.plan.games > 0
        self.table.rename(live, body["kept"], lambda p: not measured or any(n.startswith(LIVE) for n in p))
        if body["answer"] is not None:
            self.table.forget(live)

    def _reset(self, number: int, member: Member, answer: str, seed: int) -> list[Event]:
        try:
            self.arena.reset(member, answer, seed)
        except DamagedPolicyError as error:  # begin anew instead
            event = self._leave_out(number, error)
            self.arena.reset(member, FRESH, seed)
            self.progress[member.name].parent = None
            return [event]
        return []

    def _admit(self, entry: Entry, number: int = 0) -> Event:
        kept = self.population.add(entry)
        self.arena.admit(kept.name, kept.role, kept.file, entry.member)
        key = f"policy/{entry.generation}/{entry.role}/{entry.member}/{number}"
        return Event(key, "policy", {**asdict(entry), "kept": kept.name})

    # What policies earn

    def _names(self) -> list[list[str]]:
        """The policies that each team may play, as the meta-solver sees them."""
        found = []
        for team in self.arena.spec.teams:
            names = [e.name for e in self.population.of(self.arena.roles[team])]
            found.append(names[-self.plan.window :] if self.plan.window else names)
        return found

    def _measure(self, number: int) -> list[Event]:
        """Fill the payoff table between frozen policies, then solve for the meta-strategy."""
        events: list[Event] = []
        if self.plan.games:
            cells = self._despite_damage(number, events, lambda: self._missing(number))
            for profile, cell in cells.items():
                self.table.add(profile, cell.games, cell.returns, cell.squares, cell.scores)
            body = {"cells": [_cell(p, c) for p, c in cells.items()]}
            events.append(Event(f"evaluation/{number}", "evaluation", body))
        self._gap = self._despite_damage(number, events, lambda: self._meta(number))
        if self.plan.converges and number > 0 and number not in {e.generation for e in self.population}:
            self.finished = True
        return events

    def _missing(self, number: int) -> dict[Profile, Cell]:
        """Play the cells that nobody played."""
        names = self._names()
        profiles = self.table.missing(names, 1.0, self._measured)
        cells = self.arena.evaluate(profiles, self.plan.games, self._seed(number, 1000)) if profiles else []
        self._measured.update(name for own in names for name in own)
        return dict(zip(profiles, cells, strict=True))

    def _meta(self, number: int) -> float | None:
        """Solve for the meta-strategy; its NashConv."""
        names = self._names()
        payoffs, games = self.table.tensor(names)
        if self._shared:
            payoffs, games = over_seats(payoffs), np.minimum(games, games.T)
        counts = [np.array([self.population.entries[n].count for n in own], float) for own in names]
        if self.plan.meta_solver is None:
            self._solve(names, self.arena.least_exploitable(names))
        else:
            self._solve(names, self.plan.meta_solver(payoffs, games, counts))
        for member in self.plan.members:  # rules that hold a meta-strategy of their own
            if hasattr(member.match, "meta"):
                self.mixtures.update(member.match.meta(self.view(number), member))
        return self.arena.nash_conv(self.mixtures, self.joint, self._told)

    @property
    def _shared(self) -> bool:
        """Whether one role plays all teams."""
        return len(self.arena.spec.teams) > 1 and len(set(self.arena.roles.values())) == 1

    def _solve(self, names: list[list[str]], meta: Meta) -> None:
        """Keep a meta-strategy; where all teams share a role it is the same for all."""
        mixtures, joint = list(meta.mixtures), meta.joint
        self._told = meta.told
        teams = self.arena.spec.teams
        if self._shared:
            mixtures = [np.mean(mixtures, axis=0)] * len(teams)
            if joint is not None:
                turns = [tuple((k + shift) % len(teams) for k in range(len(teams))) for shift in range(len(teams))]
                joint = np.mean([joint.transpose(turn) for turn in turns], axis=0)
        self.mixtures = {
            team: {n: float(p) for n, p in zip(own, m, strict=True) if p > 0}
            for team, own, m in zip(teams, names, mixtures, strict=True)
        }
        self.joint = None
        if joint is not None:
            self.joint = {
                tuple(names[team][k] for team, k in enumerate(index)): float(joint[index])
                for index in np.ndindex(*joint.shape)
                if joint[index] > 1e-12
            }

    def _playable(self, match: Match) -> Match:
        """Without policies that cannot play."""
        bad = {e.name for e in self.population if e.damaged}
        kept = [k for k, p in enumerate(match.profiles) if not bad & set(p)]
        if not kept:
            raise UsageError("all policies that a member would meet are damaged: the league cannot go on")
        start = None if match.start in bad else match.start
        profiles = tuple(match.profiles[k] for k in kept)
        return replace(match, profiles=profiles, weights=match.weights[kept], start=start).normalised()

    # The ledger

    def _state(self, number: int) -> dict[str, Any]:
        row = {
            "generation": number,
            "nash_conv": self._gap,
            "mixtures": self.mixtures,
            "joint": None if self.joint is None else [[list(p), w] for p, w in self.joint.items()],
            "steps": sum(p.steps for p in self.progress.values()),
            "policies": len(self.population),
        }
        self.history.append(row)
        progress = {name: asdict(p) for name, p in self.progress.items()}
        return {**row, "progress": progress, "learners": self.arena.save(), "finished": self.finished}

    def _replay(self, event: Event) -> None:
        """Do again what an event says was done."""
        body = event.body
        if event.kind == "policy":
            entry = Entry(**{k: v for k, v in body.items() if k != "kept"})
            kept = self.population.add(entry)
            self.arena.admit(kept.name, kept.role, kept.file, entry.member)
        elif event.kind in ("training", "evaluation"):
            decay = (
                self.members[body["member"]].decay
                if event.kind == "training" and body["member"] in self.members
                else 1.0
            )
            for profile, games, returns, squares, scores in body["cells"]:
                arrays = (np.array(x, float) for x in (returns, squares, scores))
                self.table.add(tuple(profile), float(games), *arrays, decay=decay)
        elif event.kind == "damaged":
            self._drop(body["name"])
        elif event.kind == "frozen":
            self._inherit(body)
        elif event.kind == "generation":
            self.generation = body["generation"]
            self.mixtures, self.finished = body["mixtures"], body["finished"]
            self.joint = None if body["joint"] is None else {tuple(p): w for p, w in body["joint"]}
            self.progress = {name: Progress(**p) for name, p in body["progress"].items()}
            self.history.append(
                {k: body[k] for k in ("generation", "nash_conv", "mixtures", "joint", "steps", "policies")}
            )
            self._learners = body["learners"]

    def resume(self) -> None:
        """Let members know what they knew when the last whole generation was written."""
        self.arena.prepare()
        if self.generation >= 0:
            self._remove_but(self._learners, self.store.names())  # what a crash left between two generations
            for name, error in self.arena.restore(self._learners).items():
                newest = [e.name for e in self.population if e.member == name and not e.damaged]
                start = newest[-1] if newest else FRESH
                self.warn(f"{error}; '{name}' goes on from {'its newest frozen policy' if newest else 'nothing'}")
                self.arena.reset(self.members[name], start, self._seed(self.generation, 7))


def over_seats(payoffs: np.ndarray) -> np.ndarray:
    """The payoffs of a game whose seats are drawn: means over all turns of the table."""
    teams = payoffs.shape[-1]
    total = np.zeros_like(payoffs)
    for shift in range(teams):
        turn = [(k + shift) % teams for k in range(teams)]  # whoever plays team k sits at team k + shift
        total += payoffs.transpose(*turn, teams)[..., turn]
    return total / teams


def _cell(profile: Profile, cell: Cell) -> list[Any]:
    return [list(profile), cell.games, cell.returns.tolist(), cell.squares.tolist(), cell.scores.tolist()]
