"""Training throughput beside JaxMARL on MPE simple_spread, and DQN beside PyTorch: paired runs, medians and ratios.

    python bench/throughput.py [--pairs 5] [--only ippo_ff:16 …] [--checkout PATH] [--out FILE.json]

Every figure is a whole process of its own, the two systems in turn. `--checkout` runs the peer's own loop from a
work tree of its repository instead of the one written in `peers/jaxmarl_ppo.py` from its published hyperparameters;
the value learners (`qmix`, `vdn`, `iql`, `vdn_ff`, `pqn_vdn_ff`) need it. `dqn_cartpole` stands beside
`peers/torch_dqn.py`.
Also prints the floating-point rate that training reaches, as a share of what a matrix product reaches here.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# name -> (variant, environments, updates of the peer, updates of Ludus, seeds)
TASKS = {
    "ippo_ff:16": ("ippo_ff", 16, 250, 500, 1),
    "ippo_ff:128": ("ippo_ff", 128, 35, 70, 1),
    "ippo_ff:1024": ("ippo_ff", 1024, 5, 9, 1),
    "ippo_rnn:16": ("ippo_rnn", 16, 40, 80, 1),
    "mappo_rnn:16": ("mappo_rnn", 16, 20, 40, 1),
    "seeds:10": ("ippo_ff", 16, 30, 60, 10),
}


# name -> updates of the peer, updates of Ludus; the same networks, batches and updates on both sides
VALUE_TASKS = {
    "qmix": (2000, 2000),
    "vdn": (2000, 2000),
    "iql": (2000, 2000),
    "vdn_ff": (6000, 6000),
    "pqn_vdn_ff": (12, 12),
    "dqn_cartpole": (0, 10_000),
}


def run(script: Path, *arguments: str) -> dict[str, Any]:
    """One process; its JSON."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{script.name} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def peak_gflops(rows: int, inner: int, outer: int) -> float:
    """What a (rows × inner)·(inner × outer) matrix product reaches on all cores of this machine."""
    code = (
        "import jax,time,jax.numpy as jnp\n"
        f"a=jnp.ones(({rows},{inner}));b=jnp.ones(({inner},{outer}))\n"
        "f=jax.jit(lambda a,b:a@b);f(a,b).block_until_ready()\n"
        "best=0\n"
        "for _ in range(5):\n"
        "  t=time.perf_counter()\n"
        "  for _ in range(200): r=f(a,b)\n"
        f"  r.block_until_ready();best=max(best,400*{rows * inner * outer}/(time.perf_counter()-t))\n"
        "print(best/1e9)"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def flops_per_step(variant: str) -> float:
    """Matrix-product operations per environment step of PPO: acting, values, and 4 epochs forward and back."""
    layers = lambda *widths: 2 * sum(a * b for a, b in itertools.pairwise(widths))
    gru = 2 * 2 * 128 * 3 * 128  # both products of a GRU of 128 units
    forward = {
        "ippo_ff": layers(18, 64, 64, 5) + layers(18, 64, 64, 1),
        "ippo_rnn": layers(18, 128) + gru + layers(128, 128, 5) + layers(128, 128, 1),  # shared up to memory
        "mappo_rnn": layers(18, 128) + gru + layers(128, 128, 5) + layers(54, 128) + gru + layers(128, 128, 1),
    }
    return 3 * (1 + 4 * 3) * forward[variant] if variant in forward else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=[*TASKS, *VALUE_TASKS])
    parser.add_argument("--checkout")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    peaks, rows = {"ff": peak_gflops(12288, 64, 64), "rnn": peak_gflops(1536, 128, 384)}, []
    said = ", ".join(f"{name} {peak:.0f}" for name, peak in peaks.items())
    print(
        f"{date.today()}, Python {platform.python_version()}, GFLOP/s of matrix products of the networks' sizes: {said}"
    )
    chosen = given.only or [*TASKS, *(VALUE_TASKS if given.checkout else ["dqn_cartpole"])]
    for name in chosen:
        if name in VALUE_TASKS:
            rows.append(summarise(name, name, value_pairs(name, given.pairs, given.checkout), peaks["rnn"]))
            print(json.dumps(rows[-1]), flush=True)
            continue
        variant, envs, peer_updates, own_updates, seeds = TASKS[name]
        common = ["--variant", variant, "--num-envs", str(envs), "--seeds", str(seeds)]
        peer_extra = ["--checkout", given.checkout] if given.checkout else []
        pairs = []
        for _ in range(given.pairs):
            peer = run(HERE / "peers" / "jaxmarl_ppo.py", *common, "--updates", str(peer_updates), *peer_extra)
            own = run(HERE / "ludus_ppo.py", *common, "--updates", str(own_updates))
            pairs.append((own, peer))
            time.sleep(0.5)
        row = summarise(name, variant, pairs, peaks["ff" if variant == "ippo_ff" else "rnn"])
        if seeds > 1:  # single runs of the same system, for comparison with several in one program
            alone = ["--variant", variant, "--num-envs", str(envs), "--updates", "300"]
            single = [run(HERE / "ludus_ppo.py", *alone) for _ in range(given.pairs)]
            row["single_run"] = round(statistics.median(r["env_steps_per_second"] for r in single))
        rows.append(row)
        print(json.dumps(row), flush=True)
    if given.out:
        given.out.write_text(json.dumps({"date": str(date.today()), "peak_gflops": peaks, "rows": rows}, indent=1))


def value_pairs(name: str, pairs: int, checkout: str | None) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Paired runs of a value learner."""
    theirs, ours = VALUE_TASKS[name]
    peers = HERE / "peers"
    found = []
    for _ in range(pairs):
        if name == "dqn_cartpole":
            peer = run(peers / "torch_dqn.py")
        elif checkout is None:
            sys.exit(f"{name} is timed beside the peer's own loop: give --checkout PATH")
        else:
            peer = run(peers / "jaxmarl_q.py", "--variant", name, "--checkout", checkout, "--updates", str(theirs))
        found.append((run(HERE / "ludus_q.py", "--variant", name, "--updates", str(ours)), peer))
        time.sleep(0.5)
    return found


def summarise(
    name: str, variant: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]], peak: float
) -> dict[str, Any]:
    """Medians and the spread of the paired ratios."""
    speed = lambda r: r["env_steps_per_second"]
    ratios = [speed(own) / speed(peer) for own, peer in pairs]
    ludus = statistics.median(speed(own) for own, _ in pairs)
    return {
        "task": name,
        "ludus": round(ludus),
        "peer": round(statistics.median(speed(peer) for _, peer in pairs)),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_min": round(min(ratios), 2),
        "ratio_max": round(max(ratios), 2),
        "ludus_compile_seconds": round(statistics.median(own["compile_seconds"] for own, _ in pairs), 1),
        "peer_compile_seconds": round(statistics.median(peer["compile_seconds"] for _, peer in pairs), 1),
        "devices": pairs[0][0]["devices"],
        "share_of_peak": round(ludus * flops_per_step(variant) / 1e9 / peak, 2),
        "peer_loop": pairs[0][1].get("loop"),
        "versions": {**pairs[0][1].get("versions", {}), **pairs[0][0]["versions"]},
        "cores": pairs[0][0]["cpu_count"],
    }


if __name__ == "__main__":
    main()
