"""Leagues: what they find, and how fast. Rows as JSON lines.

    python bench/league.py [deep] [play] [ablation] [tag] [smax] [speed] [--seeds 3] [--only NAME …] [--out FILE.json]

`deep`: exact NashConv of learners on Kuhn and Leduc poker, beside self-play PPO of the same steps. `play`: an AlphaStar
league and self-play PPO of equal steps on connect four: cross-play, the worst share that the last main agent wins
against its own past, and what an exploiter wins. `ablation`: main agents alone, with main exploiters, with all.
`speed`: frozen opponents, members in one program, all pairs.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import ludus
from ludus.experiment.league import LeagueRun, league_arena
from ludus.league.arena import Job, Trained
from ludus.league.matchmaking import SelfPlay
from ludus.league.member import Member
from ludus.league.rules import GoOn, Never
from ludus.league.view import Match
from ludus.runtime.setup import configure

KUHN, LEDUC, FOUR = "spiel/kuhn_poker", "spiel/leduc_poker", "pgx/connect_four"
# name -> preset, game, what is asked of the last NashConv, settings
DEEP: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "psro_kuhn": ("psro", KUHN, "< 0.1 within 10 generations", {}),
    "nfsp_kuhn": ("nfsp", KUHN, "< 0.1", {}),
    "mmd_kuhn": ("neural-mmd", KUHN, "< 0.05", {}),
    "self_play_kuhn": ("self-play", KUHN, "beside them", {}),
    "psro_leduc": ("psro", LEDUC, "<= 0.8 within 30 minutes", {}),
    "nfsp_leduc": ("nfsp", LEDUC, "<= 1.0", {}),
    "mmd_leduc": ("neural-mmd", LEDUC, "<= 0.6", {}),
    "self_play_leduc": ("self-play", LEDUC, "beside them", {}),
}


def deep(seeds: int, only: list[str] | None, first: int = 0) -> Iterator[dict[str, Any]]:
    """NashConv of each generation."""
    for name, (preset, game, asked, settings) in DEEP.items():
        if only and name not in only:
            continue
        for seed in range(first, seeds):
            begin = time.monotonic()
            marks: list[float] = []

            def watch(generation: Any, begin: float = begin, marks: list[float] = marks) -> None:
                marks.append(round(time.monotonic() - begin))
                print(f"{generation.number} {generation.nash_conv:.4f} {marks[-1]} s", file=sys.stderr, flush=True)

            run = ludus.league(preset, game, seed=seed, watch=watch, **settings)
            forget_programs()
            gaps = [round(h["nash_conv"], 4) for h in run.league.history]
            yield {
                "task": name,
                "asked": asked,
                "seed": seed,
                "nash_conv": gaps[-1],
                "least": min(gaps),
                "curve": gaps,
                "seconds": marks,
                "steps": run.league.history[-1]["steps"],
            }


def connect_four(preset: str, seed: int, steps: int, **settings: Any) -> LeagueRun:
    """A league whose members train `steps` in all."""
    members = {"self-play": 1}.get(preset, {"none": 1, "main": 2}.get(settings.get("exploiters", "all"), 4))
    generations = 16
    return ludus.league(
        preset,
        FOUR,
        seed=seed,
        generations=generations,
        steps=steps // (members * generations),
        games=200,
        **settings,
    )


def forget_programs() -> None:
    """Let go of compiled programs: a process can map only so many."""
    gc.collect()
    jax.clear_caches()


def last(run: LeagueRun) -> str:
    """The newest policy of the main agent."""
    return [e.name for e in run.league.population if e.member == "main"][-1]


def cross(runs: dict[str, LeagueRun], episodes: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """The share that each run's last main agent wins against each other's, both seats, draws half."""
    first = next(iter(runs.values()))
    arena = first.arena
    for name, run in runs.items():
        found = run.store.content(run.league.population.entries[last(run)].file)
        arena.hold(name, "players", Trained(*found, 0))
    table: dict[str, dict[str, float]] = {}
    for own in runs:
        table[own] = {}
        for other in runs:
            cells = arena.evaluate([(own, other), (other, own)], episodes, seed)
            table[own][other] = round(float(cells[0].score[0] + cells[1].score[1]) / 2, 3)
    return table


def worst(run: LeagueRun, episodes: int) -> float:
    """The least share that the last main agent wins against any of its past selves."""
    own = last(run)
    past = [e.name for e in run.league.population if e.member in ("main", "start") and e.name != own]
    shares = []
    for other in past:
        cells = run.arena.evaluate([(own, other), (other, own)], episodes, 1)
        shares.append(float(cells[0].score[0] + cells[1].score[1]) / 2)
    return round(min(shares), 3)


def exploiter(run: LeagueRun, steps: int, seed: int) -> float:
    """The share that a fresh learner wins after training against the last main agent alone."""

    member = Member("exploiter", "players", run.config.oracle, SelfPlay(), Never(), GoOn(), span="generation")
    arena = league_arena(run, (member,), steps, seed + 77)
    [found] = arena.train([Job(member, Match(((last(run),),), np.ones(1)), 0, (0.0, 1.0), seed + 77)])
    arena.hold("exploiter", "players", found)
    cells = arena.evaluate([("exploiter", last(run)), (last(run), "exploiter")], 500, 3)
    return round(float(cells[0].score[0] + cells[1].score[1]) / 2, 3)


def play(seeds: int, steps: int) -> Iterator[dict[str, Any]]:
    """AlphaStar's league beside self-play, equal steps."""
    runs: dict[str, LeagueRun] = {}
    for seed in range(seeds):
        for preset in ("alphastar", "self-play"):
            begin = time.monotonic()
            run = connect_four(preset, seed, steps)
            runs[f"{preset}-{seed}"] = run
            forget_programs()
            yield {
                "task": "connect_four",
                "preset": preset,
                "seed": seed,
                "steps": run.league.history[-1]["steps"],
                "seconds": round(time.monotonic() - begin),
                "worst_against_own_past": worst(run, 500),
                "exploiter_wins": exploiter(run, steps // 4, seed),
            }
    yield {"task": "connect_four cross-play", "share_won_by_row": cross(runs, 500)}


def ablation(seeds: int, steps: int) -> Iterator[dict[str, Any]]:
    """Who is needed: mains alone, with main exploiters, with league exploiters too; equal steps in all."""
    for seed in range(seeds):
        runs = {}
        for which in ("none", "main", "all"):
            runs[which] = connect_four("alphastar", seed, steps, exploiters=which)
            forget_programs()
        for which, run in runs.items():
            yield {
                "task": "ablation",
                "exploiters": which,
                "seed": seed,
                "worst_against_own_past": worst(run, 500),
                "exploiter_wins": exploiter(run, steps // 4, seed),
            }
        yield {"task": "ablation cross-play", "seed": seed, "share_won_by_row": cross(runs, 500)}
        forget_programs()


def teams(game: str, seeds: int) -> Iterator[dict[str, Any]]:
    """Asymmetric teams of several agents: payoffs between the populations, and the meta-strategy."""
    for seed in range(seeds):
        begin = time.monotonic()
        run = ludus.league("psro", game, seed=seed, generations=6, games=100)
        names = [[e.name for e in run.league.population.of(run.roles[t])] for t in run.env.spec.teams]
        payoffs, _ = run.league.table.tensor(names)
        yield {
            "task": game,
            "seed": seed,
            "seconds": round(time.monotonic() - begin),
            "teams": list(run.env.spec.teams),
            "returns_of_first_team": np.round(payoffs[..., 0], 2).tolist(),
            "meta_strategy": {t: {n: round(w, 3) for n, w in m.items()} for t, m in run.league.mixtures.items()},
        }
        forget_programs()


def speed() -> Iterator[dict[str, Any]]:
    """Training against 1 and 16 frozen opponents; 1 and 16 members; all pairs of 64 policies."""

    def member(k: int) -> Member:
        return Member(f"m{k}", "players", ludus.PPO(rollout_length=32), SelfPlay(), Never(), GoOn())

    def timed(run: Callable[[], Any]) -> float:
        run()  # compiles
        times = []
        for _ in range(3):
            begin = time.monotonic()
            run()
            times.append(time.monotonic() - begin)
        return float(np.median(times))

    configure()
    cores = len(jax.devices())
    for game in (KUHN, FOUR):
        base = ludus.league("self-play", game, oracle=ludus.PPO(rollout_length=32), generations=1, steps=4096, games=0)
        seconds = {}
        for slots in (1, 16):
            members = (member(0),)
            arena = league_arena(base, members, 262_144, slots=slots)
            for k in range(slots):
                arena.hold(f"p{k}", "players", arena.start(members[0], k))
            match = Match(tuple((f"p{k}",) for k in range(slots)), np.full(slots, 1 / slots))
            seconds[slots] = timed(lambda a=arena, m=match: a.train([Job(members[0], m, 0, (0.0, 0.0), 1)]))
        yield {"task": f"16 opponents over 1, {game}", "ratio": round(seconds[16] / seconds[1], 3), "asked": 1.5}
        seconds = {}
        for count in (1, 16):
            members = tuple(member(k) for k in range(count))
            arena = league_arena(base, members, 131_072, slots=4, devices=cores)
            arena.hold("p", "players", arena.start(members[0], 0))
            jobs = [Job(m, Match((("p",),), np.ones(1)), 0, (0.0, 0.0), 1) for m in members]
            seconds[count] = timed(lambda a=arena, j=jobs: a.train(j))
        row = {"task": f"16 members over 1, {game}", "ratio": round(seconds[16] / seconds[1], 2), "asked": 12}
        yield row | {"devices": cores}
    base = ludus.league("self-play", KUHN, oracle=ludus.PPO(rollout_length=32), generations=1, steps=4096, games=0)
    members = (member(0),)
    arena = league_arena(base, members, 4096)
    arena.exact = False
    names = [f"p{k}" for k in range(64)]
    for k, name in enumerate(names):
        arena.hold(name, "players", arena.start(members[0], k))
    profiles = [(a, b) for a in names for b in names]
    begin = time.monotonic()
    arena.evaluate(profiles, 1000, 0)
    yield {
        "task": "all pairs of 64, 1,000 episodes each, Kuhn",
        "seconds": round(time.monotonic() - begin, 1),
        "asked": 60,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["deep", "play", "ablation", "tag", "smax", "speed"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed of `deep`")
    parser.add_argument("--steps", type=int, default=8_000_000, help="of each league on connect four, all members")
    parser.add_argument("--only", nargs="*", help="names of `deep`")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    tasks: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "deep": lambda: deep(given.seeds, given.only, given.first),
        "play": lambda: play(given.seeds, given.steps),
        "ablation": lambda: ablation(given.seeds, given.steps),
        "tag": lambda: teams("mpe/simple_tag", given.seeds),
        "smax": lambda: teams("smax/3m-versus", given.seeds),
        "speed": speed,
    }
    for name in given.what:
        for row in tasks[name]():
            print(json.dumps(row), flush=True)
            if given.out:
                with given.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
