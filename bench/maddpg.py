"""What MADDPG is for: talking, playing against others, inferring their policies, and ensembles. Tables as JSON lines.

    python bench/maddpg.py [talk] [infer] [prey] [ensemble] [--seeds 3] [--steps N]

`talk`: `mpe/simple_speaker_listener`, where only the speaker knows the goal and only the listener moves. An episode
counts as reached if the listener's last distance to the goal is below `REACH`. MADDPG, and DDPG (the same with local
critics). `infer`: MADDPG that infers the others' policies. `prey`: `mpe/simple_tag` with either kind of critic for
either team. `ensemble`: three sub-policies against one, both ways round.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import jax
import numpy as np

import ludus
from ludus.experiment.config import Config, resolve
from ludus.runtime.rollout import collect, init_actors

TALK, TAG = "mpe/simple_speaker_listener", "mpe/simple_tag"
EPISODES, REACH = 1000, 0.2


def trained(game: str, seeds: int, steps: int | None, **changes: Any) -> ludus.Run:
    """The preset of MADDPG in that game, with some fields changed."""
    config: Config = resolve("maddpg", game)[0]
    settings = {"steps": steps or config.settings.steps, "num_envs": config.settings.num_envs, "seeds": seeds}
    return ludus.train(replace(config.algorithm, **changes), game, options=config.options, **settings)


def talk(run: ludus.Run) -> dict[str, Any]:
    """How close listeners come, by seed: greedy play of fresh episodes."""
    env = ludus.make(TALK, **run.config.options)
    length = env.spec.horizon
    found: dict[str, list] = {"reached": [], "last_distance": [], "return": []}
    for policies in run.policies:
        play = lambda keys, p=policies: collect(env, p, init_actors(env, p, keys), length, explore=False)[1]
        rollout = jax.jit(play)(jax.random.split(jax.random.key(1000), EPISODES))
        reward = np.asarray(rollout.groups["listener"].reward[..., 0])
        distance = np.sqrt(-reward[-1])
        found["reached"].append(round(float((distance < REACH).mean()), 3))
        found["last_distance"].append(round(float(distance.mean()), 3))
        found["return"].append(round(float(reward.sum(0).mean()), 2))
    return found


def against(own: ludus.Run, other: ludus.Run, team: str) -> list[float]:
    """Mean return of `team` of one run against the other team of the other, seed by seed."""
    env = ludus.make(TAG, **own.config.options)
    found = []
    for mine, theirs in zip(own.policies, other.policies, strict=True):
        seated = {g.name: (mine if g.team == team else theirs)[g.name] for g in env.spec.groups}
        result = ludus.evaluate(seated, TAG, options=own.config.options, episodes=EPISODES, seed=1000, explore=True)
        found.append(round(result.to_dict()["mean_return"][team], 2))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["talk", "infer", "prey", "ensemble"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int)
    given = parser.parse_args()
    tell = lambda **row: print(json.dumps(row), flush=True)
    train = lambda game, **changes: trained(game, given.seeds, given.steps, **changes)
    if "talk" in given.what:
        tell(task="talk", critics="central (MADDPG)", **talk(train(TALK)))
        tell(task="talk", critics="local (DDPG)", **talk(train(TALK, local_teams=("team",))))
    if "infer" in given.what:
        run = train(TALK, infer_others=True)
        losses = run.history[-1]["losses"]
        kl = {name: round(x, 3) for name, x in losses.items() if "kl_of" in name}
        tell(task="talk", critics="central, others inferred", **talk(run), kl_in_nats=kl)
    if "prey" in given.what:
        for predators in ("maddpg", "ddpg"):
            for prey in ("maddpg", "ddpg"):
                local = tuple(t for t, k in (("predators", predators), ("prey", prey)) if k == "ddpg")
                run = train(TAG, local_teams=local)
                tell(task="prey", predators=predators, prey=prey, predators_return=against(run, run, "predators"))
    if "ensemble" in given.what:
        many, one = train(TAG, ensemble=3), train(TAG)
        for name, (own, other) in {
            "3 v 3": (many, many),
            "3 v 1": (many, one),
            "1 v 3": (one, many),
            "1 v 1": (one, one),
        }.items():
            tell(task="ensemble", predators_v_prey=name, predators_return=against(own, other, "predators"))


if __name__ == "__main__":
    main()
