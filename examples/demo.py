"""The main job in about three minutes: a cooperative game and a board game, trained, evaluated and reported.

    python examples/demo.py [--out DIR] [--scale 1.0]

MAPPO learns to cover landmarks (`mpe/simple_spread`), PPO learns Connect Four by playing itself; both are then
evaluated beside random play. Returns are per agent.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import ludus
from ludus.experiment.console import display
from ludus.experiment.report import write_report

STEPS = {"mpe/simple_spread": 2_000_000, "pgx/connect_four": 2_500_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where runs and report go (default: a new directory under runs/)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual steps")
    given = parser.parse_args()
    out = given.out or Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S")
    runs = [train("mappo", "mpe/simple_spread", out, given.scale), train("ppo", "pgx/connect_four", out, given.scale)]

    spread, random_spread = (ludus.evaluate(p, "mpe/simple_spread", episodes=512) for p in (runs[0].policy, "random"))
    ours, chance = (e.to_dict()["mean_return"]["agents"] for e in (spread, random_spread))
    print(f"\nmpe/simple_spread: return per agent {ours:.2f} after training, {chance:.2f} at random (512 episodes)")
    board = ludus.evaluate(runs[1], episodes=512, against="random").to_dict()
    print(
        f"pgx/connect_four against random play, both seats: {board['win_rate']:.1%} won, "
        f"{board['draw_rate']:.1%} drawn, {board['loss_rate']:.1%} lost (512 episodes)"
    )
    report = write_report([run.path for run in runs], out / "report")
    print(f"report: {report['page']}")


def train(algorithm: str, environment: str, out: Path, scale: float) -> ludus.Run:
    """One run with its preset."""
    print(f"training {algorithm} on {environment}")
    steps = max(1, int(STEPS[environment] * scale))
    path = out / environment.replace("/", "-")
    return ludus.train(
        algorithm,
        environment,
        steps=steps,
        evaluate_every=max(1, steps // 8),
        run_dir=path,
        display=display(quiet=False),
    )


if __name__ == "__main__":
    main()
