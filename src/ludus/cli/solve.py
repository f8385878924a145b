"""`ludus solve GAME …`."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from ludus.cli.output import print_json
from ludus.cli.parse import parse
from ludus.core.errors import UsageError
from ludus.core.output import prints_to_stderr


@dataclass(frozen=True)
class Solve:
    """Solve a game exactly: spiel/…, matrix/… or stochastic/…."""

    game: tyro.conf.Positional[str]
    """Its name, like spiel/leduc_poker."""
    method: str | None = None
    """The method, one of `ludus solve --list` (default: cfr+ for trees, lp or support-enumeration for matrices,
    shapley for stochastic games)."""
    iterations: int = 1000
    """The most iterations."""
    target_exploitability: float | None = None
    """Stop at this exploitability (NashConv / players)."""
    temperature: float | None = None
    """Of mmd and qre."""
    seed: int = 0
    """Of sampling methods."""
    max_nodes: int = 5_000_000
    """Refuse larger trees."""
    out: Path | None = None
    """Where strategy, result and curve go (default: solutions/GAME-METHOD)."""
    json: bool = False
    """Print one JSON object."""
    quiet: bool = False
    """Print nothing but errors."""


def solve(arguments: list[str]) -> int:
    """`ludus solve GAME`, or `ludus solve --list`."""
    from ludus.experiment.solve import METHODS

    if arguments == ["--list"]:
        print("\n".join(METHODS))
        return 0
    return _run(parse(Solve, arguments, "solve"))


def _run(given: Solve) -> int:
    """Solve, store, print."""
    from ludus.experiment.solution import Point
    from ludus.experiment.solve import solve

    options = {"max_nodes": given.max_nodes} if given.game.startswith("spiel/") else {}

    def watch(point: Point) -> None:
        if not (given.quiet or given.json):
            print(
                f"iteration {point.iteration:>10,}   {point.seconds:8.2f} s   NashConv {point.nash_conv:.3e}",
                file=sys.stderr,
            )

    with prints_to_stderr():
        found = solve(
            given.game,
            given.method,
            iterations=given.iterations,
            target_exploitability=given.target_exploitability,
            temperature=given.temperature,
            seed=given.seed,
            options=options,
            watch=watch,
        )
        out = given.out or Path("solutions") / re.sub(r"[^\w.+-]+", "-", f"{found.game}-{found.method}").strip("-")
        try:
            found.save(out)
        except OSError as error:
            raise UsageError(f"cannot write the solution to {out}: {error.strerror}") from error
    if given.json:
        print_json({**found.to_dict(), "out": str(out)})
    elif not given.quiet:
        _show(found, out)
    return 0


def _show(found: Any, out: Path) -> None:
    print(f"{found.game} by {found.method}")
    print("value (expected return of each player): " + ", ".join(f"{v:.6f}" for v in found.value))
    if found.nash_conv is not None:
        print(f"NashConv {found.nash_conv:.3e}, exploitability (NashConv / players) {found.exploitability:.3e}")
    rate = f", {found.iterations / found.seconds:,.0f} iterations/s" if found.seconds > 0 else ""
    print(f"{found.iterations:,} iterations in {found.seconds:.3f} s{rate}; compiled in {found.compile_seconds:.1f} s")
    print(f"solution: {out}")
