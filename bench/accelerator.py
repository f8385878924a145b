"""Whether an accelerator trains what host cores train: the same calls of a program on both, and how far apart they end.

    python bench/accelerator.py [--json]

Runs each case in a process of its own on host cores and on JAX's default device, with products of full precision and
with the accelerator's default one. Reported: the largest difference of a weight, relative to the largest change that
training made to one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

# name -> (algorithm, game, settings of the algorithm)
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ppo": ("ppo", "mpe/simple_spread", {}),
    "ppo_gru": ("ppo", "smax/3m", {"network": {"memory": "gru", "memory_size": 64, "hidden": [64]}}),
    "self_play": ("ppo", "pgx/connect_four", {}),
    "qmix_gru": ("qmix", "mpe/simple_spread", {"warm_up": 200}),
    "ddpg": ("ddpg", "gym/Pendulum-v1", {"warm_up": 200}),
}
CALLS = 3  # of the compiled program, each of several updates


def weights(case: str, out: Path) -> None:
    """Train a case for a few updates; store its flat weights before and after."""
    import jax

    import ludus
    from ludus.experiment.config import resolve
    from ludus.experiment.train import program_of
    from ludus.runtime.setup import configure

    configure()
    algorithm, game, settings = CASES[case]
    flags = {"algorithm": settings, "settings": {"num_envs": 16, "steps": 1_000_000, "devices": 1}}
    config, _ = resolve(algorithm, game, flags=flags)
    program = program_of(config, ludus.make(config.environment, **config.options))
    state = program.init(0)
    run = program.compile(state)

    def flat() -> Any:
        leaves = jax.tree.leaves(program.policies(state))
        return np.concatenate([np.ravel(x) for x in leaves if isinstance(x, jax.Array) and x.dtype == np.float32])

    before = flat()
    for _ in range(CALLS):
        state, _ = jax.block_until_ready(run(state))
    updates = CALLS * program.iterations_per_call
    np.savez(out, before=before, after=flat(), updates=updates, device=jax.devices()[0].device_kind)


def child(case: str, folder: Path, name: str, **environment: str) -> dict[str, np.ndarray]:
    out = folder / f"{case}-{name}.npz"
    command = [sys.executable, __file__, "--case", case, "--out", str(out)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case} on {name} failed:\n{done.stderr[-2000:]}")
    return dict(np.load(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.case:
        weights(given.case, given.out)
        return
    with tempfile.TemporaryDirectory() as directory:
        for case in CASES:
            host = child(case, Path(directory), "host", JAX_PLATFORMS="cpu", LUDUS_HOST_DEVICES="1")
            change = np.abs(host["after"] - host["before"]).max()
            row: dict[str, Any] = {"case": case, "updates": int(host["updates"]), "change": float(change)}
            for precision in ("highest", "default"):
                name = {} if precision == "default" else {"JAX_DEFAULT_MATMUL_PRECISION": precision}
                found = child(case, Path(directory), precision, **name)
                row["device"] = str(found["device"])
                row[precision] = float(np.abs(found["after"] - host["after"]).max() / change)
            print(json.dumps(row) if given.json else row, flush=True)


if __name__ == "__main__":
    main()
