"""JaxMARL's value-learning baselines on MPE simple_spread (or another of its games), timed: one JSON object.

Runs the peer's own training function from a work tree of its repository, ``--checkout PATH``, with its published
settings; tracker, configuration framework and callback are replaced by stand-ins that do nothing, and its evaluation
during training is switched off unless ``--evaluate`` asks for it. Needs ``pip install flashbax``.

An environment step is one step of one environment, in which all its agents move once. Returns are per agent: JaxMARL's
MPE log multiplies by the number of agents, and that factor is taken out again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import types
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jaxmarl_ppo import load_config, load_script

# name -> (script, settings)
VARIANTS = {
    "qmix": ("qmix_rnn.py", "ql_rnn_mpe.yaml"),
    "vdn": ("vdn_rnn.py", "ql_rnn_mpe.yaml"),
    "iql": ("iql_rnn.py", "ql_rnn_mpe.yaml"),
    "vdn_ff": ("vdn_ff.py", "vdn_ff_mpe.yaml"),
    "pqn_vdn_ff": ("pqn_vdn_ff.py", "pqn_vdn_ff_mpe.yaml"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    parser.add_argument("--checkout", type=Path, required=True, help="work tree of the peer")
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1, help="trained in one program, as its own scripts do")
    parser.add_argument("--evaluate", action="store_true", help="its own greedy evaluation at the end")
    parser.add_argument("--smax", help="train on this SMAX map instead")
    parser.add_argument("--hidden", type=int, help="units of the networks, instead of the published number")
    parser.add_argument("--envs", type=int, help="environments, instead of the published number")
    parser.add_argument("--length", type=int, help="steps of each between two updates, instead of the published number")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    script, settings = VARIANTS[given.variant]
    folder = given.checkout / "baselines" / "QLearning"
    if not (folder / script).exists():
        sys.exit(f"{given.checkout} is not a work tree of JaxMARL: it has no baselines/QLearning/{script}")
    config = load_config(folder / "config" / "alg" / ("ql_rnn_smax.yaml" if given.smax else settings))
    for name in ("TEST_NUM_ENVS", "TEST_NUM_STEPS", "NUM_ENVS", "NUM_STEPS", "BUFFER_SIZE", "BUFFER_BATCH_SIZE"):
        if name in config:
            config[name] = int(config[name])
    if given.smax:
        config["MAP_NAME"] = given.smax
    instead = {"HIDDEN_SIZE": given.hidden, "NUM_ENVS": given.envs, "NUM_STEPS": given.length}
    config |= {name: value for name, value in instead.items() if value is not None}
    config |= {
        "TOTAL_TIMESTEPS": given.updates * config["NUM_ENVS"] * config["NUM_STEPS"],
        "TEST_DURING_TRAINING": given.evaluate,
        "TEST_INTERVAL": 1.0,
        "WANDB_MODE": "disabled",
    }
    sys.modules["omegaconf"] = types.SimpleNamespace(OmegaConf=None)  # type: ignore
    module = load_script(folder / script)
    env, _ = module.env_from_config(config)
    train, key = module.make_train(config, env), jax.random.PRNGKey(given.seed)
    if given.seeds > 1:
        train, key = jax.vmap(train), jax.random.split(key, given.seeds)
    train = jax.jit(train)
    begin = time.perf_counter()
    compiled = train.lower(key).compile()
    compile_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    out: Any = jax.block_until_ready(compiled(key))
    seconds = time.perf_counter() - begin
    steps = config["TOTAL_TIMESTEPS"] * given.seeds
    result = {
        "system": "jaxmarl",
        "variant": given.variant,
        "loop": "checkout",
        "device": jax.devices()[0].device_kind,
        "seeds": given.seeds,
        "settings": {name: value for name, value in config.items() if isinstance(value, (int, float, str, bool))},
        "env_steps": steps,
        "seconds": seconds,
        "env_steps_per_second": steps / seconds,
        "compile_seconds": compile_seconds,
        "versions": {name: version(name) for name in ("jax", "jaxmarl", "flax", "optax", "flashbax")},
        "python": platform.python_version(),
        "cpu_count": os.cpu_count(),
    }
    if given.evaluate:
        found = next(x for x in out["runner_state"] if isinstance(x, dict) and "returned_episode_returns" in x)
        result["evaluation"] = {name: value.tolist() for name, value in found.items()}
        agents = 1 if given.smax else env.num_agents
        returns = found["returned_episode_returns"] / agents
        result["returns"] = returns.tolist()
        result["final_return"] = float(returns.mean())
    print(json.dumps(result, indent=None if given.json else 1))


if __name__ == "__main__":
    main()
