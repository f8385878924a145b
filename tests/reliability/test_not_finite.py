"""NaN or infinity from a game stops training before anything learned of it is kept; `--on-nan skip` goes on."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from processes import TINY, newest, rows

import ludus
from ludus.cli.main import main
from ludus.core.errors import NotFiniteError
from ludus.storage.arrays import read_arrays

ENVS, LENGTH = 4, 8
COMMAND = ["train", "ppo", "faulty:make", *TINY, "--quiet"]
RARE = ["--env.chance", "0.0005"]  # of 1,600 episodes in a call


def all_finite(run, begin=0):
    """Whether every stored array is free of NaN and infinity, from one checkpoint on."""
    files = [*sorted((run / "checkpoints").iterdir())[begin:], *(run / "policies").rglob("*.safetensors")]
    arrays = [x for file in files for x in read_arrays(file)[0].values()]
    return all(np.isfinite(x).all() for x in arrays if np.issubdtype(x.dtype, np.floating))


@pytest.mark.parametrize(
    ("place", "value"), [("observation", math.nan), ("reward", math.inf), ("last_observation", math.nan)]
)
def test_training_stops_names_the_place_and_keeps_the_last_good_checkpoint(tmp_path, capsys, place, value):
    run = tmp_path / "run"
    broken = ["--env.place", place, "--env.value", str(value), *RARE, "--seed", "2"]
    code = main([*COMMAND, *broken, "--steps", "100000", "--checkpoint-every", "0", "--run-dir", str(run)])
    err = capsys.readouterr().err
    assert code == 1, "it trained on numbers that are not finite"
    assert "faulty:make" in err and "'walkers'" in err and re.search(r"step \d+", err) and "Traceback" not in err
    assert newest(run) == len(rows(run)), "every good call was kept, and nothing after them"
    assert all_finite(run)


def test_the_step_and_the_environment_are_those_that_broke(tmp_path):
    """One long episode that breaks in its step 77, in every environment: in the tenth iteration of the first call."""
    options = {"place": "reward", "at": 77, "horizon": 1000}
    algorithm = ludus.PPO(rollout_length=LENGTH, minibatches=1, epochs=1)
    with pytest.raises(NotFiniteError, match=r"environment 0, step 7[67]\b"):
        ludus.train(algorithm, "faulty:make", options=options, run_dir=tmp_path / "run", steps=4096, num_envs=ENVS)


@pytest.mark.parametrize(
    ("method", "place", "at"),
    [
        ("ppo", "reward", "1"),
        ("ppo", "last_observation", "1"),
        ("ppo", "observation", "0"),  # the first of an episode, which the auto-reset gives
        ("mappo", "state", "1"),
    ],
)
def test_skip_cuts_such_episodes_counts_them_and_finishes_with_finite_numbers(tmp_path, capsys, method, place, at):
    run = tmp_path / "run"
    broken = ["--env.place", place, "--env.at", at, "--env.chance", "0.1"]
    assert (
        main(["train", method, *COMMAND[2:], *broken, "--steps", "8192", "--on-nan", "skip", "--run-dir", str(run)])
        == 0
    )
    (row,) = rows(run)
    assert row["skipped"] > 50
    assert row["episodes"] > 5 * row["skipped"], "cut episodes are not counted as played"
    assert all(math.isfinite(x) for x in (*row["return"].values(), *row["losses"].values(), row["length"]))
    first = int(place == "observation")  # what the game shows before the first update is in the first checkpoint
    assert all_finite(run, begin=first)


def test_a_state_that_is_not_finite_stops_training_with_a_central_critic(tmp_path, capsys):
    run = tmp_path / "run"
    command = ["train", "mappo", *COMMAND[2:], "--env.place", "state", "--run-dir", str(run)]
    assert main([*command, "--steps", "8192"]) == 1
    assert "faulty:make" in capsys.readouterr().err
    assert all_finite(run)
