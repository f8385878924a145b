"""A signal asks a run to stop: it checkpoints and leaves within ten seconds; a second signal ends it at once."""

from __future__ import annotations

import signal
import time

import pytest
from processes import STEPS_PER_CALL, TINY, finish, ludus, newest, results, rows, start, stop, wait_until

GAME = ["ppo", "matrix/matching_pennies", *TINY]
CALLS = 40
LONG = ["train", *GAME, "--steps", str(CALLS * STEPS_PER_CALL), "--checkpoint-every", "1000"]
# Every step sleeps in the host, so that one call of the program outlasts the patience of a stop.
SLOW = ["train", "ppo", "faulty:slow", *TINY, "--steps", str(10 * STEPS_PER_CALL), "--env.seconds", "0.05"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What the long run computes if nobody interrupts it."""
    path = tmp_path_factory.mktemp("alone")
    assert ludus(*LONG, "--run-dir", "run", cwd=path)[0] == 0
    return results(path / "run")


def goes_on(tmp_path):
    """Whether a run can be resumed: waits until the resumed process says so, then kills it."""
    process = start("resume", "run", cwd=tmp_path)
    line = process.stderr.readline()
    while line and not line.startswith("resuming"):
        line = process.stderr.readline()
    process.kill()
    process.communicate()
    return line.startswith("resuming")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_checkpoints_and_leaves_and_the_resumed_run_ends_the_same(tmp_path, alone, number):
    run = tmp_path / "run"
    process = start(*LONG, "--run-dir", "run", cwd=tmp_path)
    wait_until(process, lambda: len(rows(run)) >= 3)
    process.send_signal(number)
    code, _, err = finish(process, within=10)
    assert code == 130 and "Traceback" not in err and "ludus resume" in err
    assert 3 <= newest(run) < CALLS, "the state at the stop was saved, not only that of the start"
    assert newest(run) == len(rows(run))
    code, _, err = ludus("resume", "run", cwd=tmp_path)
    assert code == 0, err
    assert results(run) == alone


def test_signal_during_a_long_device_call_leaves_within_ten_seconds(tmp_path):
    process = start(*SLOW, "--run-dir", "run", cwd=tmp_path)
    wait_until(process, lambda: newest(tmp_path / "run") == 0)
    while "compiled" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process, within=10)
    assert code == 130 and "Traceback" not in err
    assert goes_on(tmp_path)


def test_second_signal_ends_at_once_and_the_run_can_be_resumed(tmp_path):
    process = start(*SLOW, "--run-dir", "run", cwd=tmp_path)
    wait_until(process, lambda: newest(tmp_path / "run") == 0)
    while "compiled" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process, within=1.5)
    assert code == 130 and "Traceback" not in err
    assert goes_on(tmp_path)


def test_signal_during_compilation_leaves_within_ten_seconds(tmp_path):
    process = start(
        *LONG, "--network.memory", "gru", "--run-dir", "run", cwd=tmp_path, JAX_ENABLE_COMPILATION_CACHE="false"
    )
    wait_until(process, lambda: newest(tmp_path / "run") == 0)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process, within=10)
    assert code == 130 and "Traceback" not in err
    assert newest(tmp_path / "run") == 0
    assert goes_on(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_before_the_first_checkpoint_leaves_a_run_that_can_be_resumed(tmp_path, number):
    process = start(*LONG, "--run-dir", "run", cwd=tmp_path)
    wait_until(process, lambda: (tmp_path / "run" / "config.toml").exists())
    process.send_signal(number)
    code, _, err = finish(process, within=10)
    assert code == 130 and "Traceback" not in err
    assert newest(tmp_path / "run") >= 0 and goes_on(tmp_path)


def test_the_lock_of_a_killed_run_does_not_outlive_it(tmp_path):
    process = start(*LONG, "--run-dir", "run", cwd=tmp_path)
    wait_until(process, lambda: newest(tmp_path / "run") == 0)
    code, _, err = ludus("resume", "run", cwd=tmp_path)
    assert code == 2 and f"pid {process.pid}" in err
    stop(process)
    assert goes_on(tmp_path)
