"""Wall time to JaxMARL's final evaluation return on MPE simple_spread: what a user feels.

    python bench/time_to_return.py [--peer FILE.json] [--seeds 3]

Runs the peer's published IPPO for its 10 million steps (or reads an earlier result), then Ludus's preset until its
evaluation return (sampled actions, fresh episodes, mean over agents) is at least the peer's. Both times include
neither imports nor compilation, which are printed apart.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="the peer's JSON, if it ran before on this machine")
    parser.add_argument("--algorithm", default="ppo")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    if given.peer:
        peer = json.loads(given.peer.read_text())
    else:
        command = [sys.executable, str(HERE / "peers" / "jaxmarl_ppo.py"), "--variant", "ippo_ff", "--num-envs", "16"]
        command += ["--evaluate-episodes", "512", "--curve-every", "200", "--json"]
        peer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    target = peer["evaluation_return_per_agent"]
    print(f"peer: return per agent {target:.3f} after {peer['env_steps']:,} steps in {peer['seconds']:.1f} s")
    for seed in range(given.seeds):
        report(given.algorithm, seed, target, peer["seconds"])


def report(algorithm: str, seed: int, target: float, peer_seconds: float) -> None:
    """One run of Ludus's preset; training time without its evaluations."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "run"
        command = [sys.executable, "-m", "ludus", "train", algorithm, "mpe/simple_spread", "--seed", str(seed)]
        command += ["--evaluate-every", "200000", "--evaluate-episodes", "512", "--run-dir", str(path), "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rows = [json.loads(line) for line in (path / "evaluations.jsonl").read_text().splitlines()]
        timing = [json.loads(line) for line in (path / "timing.jsonl").read_text().splitlines()][-1]
    total = rows[-1]["steps"]
    final = rows[-1]["mean_return"]["agents"]
    reached = next((row["steps"] for row in rows if row["mean_return"]["agents"] >= target), None)
    training = timing["seconds"] - timing["evaluation_seconds"]
    if reached is None:
        print(f"seed {seed}: not reached; final return per agent {final:.3f} after {total:,} steps, {training:.1f} s")
        return
    seconds = training * reached / total
    print(
        f"seed {seed}: reached at {reached:,} steps, {seconds:.1f} s of training ({seconds / peer_seconds:.2f} of the "
        f"peer's time); final return per agent {final:.3f} after {total:,} steps, {training:.1f} s"
    )


if __name__ == "__main__":
    main()
