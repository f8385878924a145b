"""A run that is killed and resumed ends with the same bytes as one left alone."""

from __future__ import annotations

import random
import signal
import time

import pytest
from processes import STEPS_PER_CALL, TINY, finish, ludus, newest, results, rows, start, stop, struck, wait_until

NETWORKS = {
    "feed-forward": ["--num-envs", "8", "--rollout-length", "16"],
    "recurrent": ["--network.memory", "gru", "--network.memory-size", "8", "--rollout-length", "16", "--num-envs", "8"],
}
CALLS = 4
SPREAD = [
    *("train", "ppo", "mpe/simple_spread", *TINY, "--checkpoint-every", "0"),
    *("--steps", str(CALLS * STEPS_PER_CALL), "--evaluate-every", str(2 * STEPS_PER_CALL)),
]
CLIMBING = [
    *("train", "ppo", "matrix/climbing", *TINY, "--checkpoint-every", "0.2"),
    *("--steps", str(60 * STEPS_PER_CALL), "--evaluate-every", str(7 * STEPS_PER_CALL), "--seeds", "2"),
]


@pytest.mark.parametrize("network", [pytest.param("feed-forward", marks=pytest.mark.slow), "recurrent"])
def test_resume_after_kill_is_bitwise(tmp_path, network):
    """Both begin on two devices, and whoever resumes finds a machine that would take one."""
    command, two = [*SPREAD, *NETWORKS[network]], {"LUDUS_HOST_DEVICES": "2"}
    code, _, err = ludus(*command, "--run-dir", "whole", cwd=tmp_path, **two)
    assert code == 0, err
    assert "devices = 2" in (tmp_path / "whole" / "config.toml").read_text()
    code, _, err = struck(signal.SIGKILL, CALLS // 2 + 1, *command, "--run-dir", "killed", cwd=tmp_path, **two)
    assert code == -signal.SIGKILL, err
    assert newest(tmp_path / "killed") == CALLS // 2 and len(rows(tmp_path / "killed")) == CALLS // 2 + 1
    code, _, err = ludus("resume", "killed", cwd=tmp_path)
    assert code == 0, err
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    assert [row["steps"] for row in rows(tmp_path / "killed")] == [k * STEPS_PER_CALL for k in range(1, CALLS + 1)]
    assert len(rows(tmp_path / "killed", "evaluations.jsonl")) == CALLS // 2


def test_resume_of_replay_is_bitwise(tmp_path):
    """The replay, its priorities and the target networks are part of the state."""
    command = ["train", "qmix", "mpe/simple_spread", "--num-envs", "8", "--rollout-length", "16", "--capacity", "4096"]
    command += ["--batch-size", "8", "--warm-up", "256", "--target-every", "7", "--prioritised"]
    command += ["--network.hidden", "16", "--checkpoint-every", "0", "--steps", str(CALLS * 8192)]
    code, _, err = ludus(*command, "--run-dir", "whole", cwd=tmp_path)
    assert code == 0, err
    code, _, err = struck(signal.SIGKILL, CALLS // 2 + 1, *command, "--run-dir", "killed", cwd=tmp_path)
    assert code == -signal.SIGKILL, err
    code, _, err = ludus("resume", "killed", cwd=tmp_path)
    assert code == 0, err
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


def test_run_killed_before_its_first_checkpoint_can_be_resumed(tmp_path):
    """Otherwise its directory would be stuck: neither `train` nor `resume` would take it."""
    command = ["train", "ppo", "matrix/climbing", *TINY, "--steps", str(2 * STEPS_PER_CALL)]
    killed = start(*command, "--run-dir", "killed", cwd=tmp_path)
    wait_until(killed, lambda: (tmp_path / "killed" / "config.toml").exists())
    stop(killed)
    assert newest(tmp_path / "killed") == -1
    code, _, err = ludus("resume", "killed", cwd=tmp_path)
    assert code == 0, err
    ludus(*command, "--run-dir", "whole", cwd=tmp_path)
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


@pytest.mark.slow
def test_resume_is_bitwise_whenever_and_however_often_it_is_killed(tmp_path):
    choose = random.Random(0)
    assert ludus(*CLIMBING, "--run-dir", "whole", cwd=tmp_path)[0] == 0
    for trial in range(5):
        name = f"killed{trial}"
        process = start(*CLIMBING, "--run-dir", name, cwd=tmp_path)
        wait_until(process, lambda name=name: newest(tmp_path / name) >= 0)
        for _ in range(3):
            time.sleep(choose.uniform(0.0, 4.0))
            if process.poll() is None:
                stop(process)
            else:
                process.communicate()
            process = start("resume", name, cwd=tmp_path)
            time.sleep(4.0)
        code, _, err = finish(process)
        assert code == 0, err
        assert results(tmp_path / name) == results(tmp_path / "whole")
