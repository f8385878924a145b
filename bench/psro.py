"""PSRO beside OpenSpiel's, in one run: exact best responses on Leduc, learners on Kuhn.

    python bench/psro.py [leduc] [kuhn] [--pairs 5] [--out FILE.json]

Leduc: seconds of the peer's 20 iterations from uniform play (compilation, or the peer's imports, left out) and its
NashConv; of Ludus's 20 iterations, and until it has that NashConv or a lower one. The peer samples payoffs (100 games
a cell); Ludus computes them. Kuhn: seconds until NashConv is 0.1, compilation included; the peer is given up after 25
times as long.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import ludus

MOST = 60  # iterations on Leduc until Ludus has the peer's NashConv
PEER = Path(__file__).parent / "peers" / "spiel_psro.py"


def peer(*flags: str) -> dict[str, Any]:
    """One run of the peer."""
    done = subprocess.run([sys.executable, str(PEER), *flags], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def leduc(preset: str) -> list[tuple[float, float]]:
    """Seconds and NashConv after each generation."""
    begin = time.monotonic()
    marks: list[tuple[float, float]] = []
    watch = lambda generation: marks.append((time.monotonic() - begin, generation.nash_conv))
    ludus.league(preset, "spiel/leduc_poker", oracle="exact", first="uniform", generations=MOST, watch=watch)
    return marks


def after(marks: list[tuple[float, float]], generation: int) -> tuple[float, float]:
    """Seconds and NashConv then; the first mark is the start's, before any iteration. A league may be over earlier."""
    return marks[min(generation, len(marks) - 1)]


def until(marks: list[tuple[float, float]], nash_conv: float) -> float:
    """Seconds until NashConv is that low."""
    return next((seconds for seconds, gap in marks if gap <= nash_conv), float("inf"))


def kuhn(seed: int) -> float:
    """Seconds until the meta-strategy's NashConv is below 0.1, from nothing compiled on."""
    begin = time.monotonic()
    reached: list[float] = []

    def watch(generation: Any) -> None:
        if generation.nash_conv < 0.1 and not reached:
            reached.append(time.monotonic() - begin)

    ludus.league("psro", "spiel/kuhn_poker", seed=seed, watch=watch)
    return reached[0] if reached else float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["leduc", "kuhn"])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for preset in ("psro", "anytime-psro") if "leduc" in given.what else ():
        leduc(preset)  # compiles
        pairs = [(leduc(preset), peer("--sims", "100")) for _ in range(given.pairs)]
        rows.append(
            {
                "task": f"{preset}, exact best responses on Leduc, 20 iterations",
                "seconds": float(np.median([after(own, 20)[0] for own, _ in pairs])),
                "nash_conv": after(pairs[0][0], 20)[1],
                "peer_seconds": float(np.median([other["seconds"] for _, other in pairs])),
                "peer_nash_conv": [round(other["nash_conv"], 3) for _, other in pairs],
                "ratio": float(np.median([other["seconds"] / after(own, 20)[0] for own, other in pairs])),
                "seconds_until_the_peers_nash_conv": [until(own, other["nash_conv"]) for own, other in pairs],
                "ratio_until_the_peers_nash_conv": float(
                    np.median([other["seconds"] / until(own, other["nash_conv"]) for own, other in pairs])
                ),
                "asked": 50,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    if "kuhn" in given.what:
        own = [kuhn(seed) for seed in range(3)]
        limit = 25 * float(np.median(own))
        flags = ("--game", "kuhn_poker", "--oracle", "dqn", "--iterations", "1000", "--sims", "1000")
        other = peer(*flags, "--until", "0.1", "--limit", str(limit))
        rows.append(
            {
                "task": "psro, learners on Kuhn, NashConv 0.1",
                "seconds": own,
                "peer_seconds": other["seconds"],
                "peer_reached_it": other["nash_conv"] <= 0.1,
                "peer_nash_conv": other["curve"],
                "ratio": other["seconds"] / float(np.median(own)),  # at least, where the peer was given up
                "asked": 20,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    if given.out:
        given.out.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
