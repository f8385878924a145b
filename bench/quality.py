"""What the shipped presets learn: every task with three seeds, evaluated on fresh episodes.

    python bench/quality.py [--only NAME …] [--seeds 3] [--out FILE.json]

Rows: return per agent (mean over seeds, each the mean of the evaluation's episodes), greedy and sampled, the win or
non-loss rate where the game defines one, steps of each seed, wall time of all seeds with compilation.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import ludus
from ludus.experiment.api import run_config
from ludus.experiment.config import resolve
from ludus.runtime.setup import configure

EPISODES = 512
# Presets with something changed, by a name of their own.
CHANGED: dict[str, tuple[str, dict[str, Any]]] = {
    "ppo-without-memory": ("ppo", {"algorithm": {"network": {"memory": "none"}}}),
}
# algorithm, environment, what must hold of the mean over seeds
TASKS: list[tuple[str, str, str]] = [
    ("ppo", "gym/CartPole-v1", "return >= 475"),
    ("a2c", "gym/CartPole-v1", "return >= 400"),
    ("reinforce", "gym/CartPole-v1", "return >= 400"),
    ("ppo", "gym/Pendulum-v1", "return >= -250"),
    ("ppo", "mpe/simple_spread", "no worse than JaxMARL"),
    ("mappo", "mpe/simple_spread", "no worse than JaxMARL"),
    ("mappo", "mpe/simple_speaker_listener", ""),
    ("ppo", "mpe/simple_tag", ""),
    ("ppo", "switch_riddle", "more than without memory"),
    ("ppo-without-memory", "switch_riddle", ""),
    ("ppo", "pgx/tic_tac_toe", "non-loss >= 0.98"),
    ("ppo", "pgx/connect_four", "non-loss >= 0.95"),
    ("ppo", "overcooked/cramped_room", ""),
    ("ppo", "smax/3m", "win rate >= 0.95"),
    ("ppo", "smax/2s3z", "win rate >= 0.9"),
    ("dqn", "gym/CartPole-v1", "return >= 475"),
    ("pqn", "gym/CartPole-v1", ""),
    ("ddpg", "gym/Pendulum-v1", "return >= -200"),
    ("td3", "gym/Pendulum-v1", "return >= -200"),
    ("sac", "gym/Pendulum-v1", "return >= -200"),
    ("vdn", "mpe/simple_spread", "no worse than JaxMARL"),
    ("qmix", "mpe/simple_spread", "no worse than JaxMARL"),
    ("vdn", "lbf/8x8-2p-2f-coop", "return >= 0.45 per agent: 0.9 of all food"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="environments, or algorithm:environment")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    configure()
    for algorithm, environment, claim in TASKS:
        if given.only and environment not in given.only and f"{algorithm}:{environment}" not in given.only:
            continue
        row = measure(algorithm, environment, claim, given.seeds)
        print(json.dumps(row), flush=True)
        if given.out:
            with given.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


def measure(algorithm: str, environment: str, claim: str, seeds: int) -> dict[str, Any]:
    """Train the preset and evaluate every seed, alone or against random play where seats are rivals."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        name, flags = CHANGED.get(algorithm, (algorithm, {}))
        config, _ = resolve(name, environment, flags={**flags, "settings": {"seeds": seeds}})
        run = run_config(config, Path(directory) / "run", None)
        seconds = time.monotonic() - begin
        spec = ludus.make(environment, **run.config.options).spec
        against = "random" if any(group.rivals for group in spec.groups) else None
        row: dict[str, Any] = {
            "algorithm": algorithm,
            "environment": environment,
            "claim": claim,
            "seeds": seeds,
            "steps": run.history[-1]["steps"],
            "seconds": round(seconds),
        }
        for mode in (False, True):
            found = [
                ludus.evaluate(
                    policies,
                    environment,
                    options=run.config.options,
                    episodes=EPISODES,
                    seed=1000 + k,
                    explore=mode,
                    against=against,
                ).to_dict()
                for k, policies in enumerate(run.policies)
            ]
            name = "sampled" if mode else "greedy"
            row[name] = {
                group: [round(result["mean_return"][group], 3) for result in found] for group in found[0]["mean_return"]
            }
            row[f"{name}_mean"] = {group: round(float(np.mean(x)), 3) for group, x in row[name].items()}
            if "win_rate" in found[0]:
                row[f"{name}_win_rate"] = [round(result["win_rate"], 3) for result in found]
            if "loss_rate" in found[0]:
                row[f"{name}_non_loss_rate"] = [round(1 - result["loss_rate"], 4) for result in found]
    return row


if __name__ == "__main__":
    main()
