"""A signal asks a run to stop: it checkpoints and leaves within ten seconds; a second signal ends it at once."""

from __future__ import annotations

import signal
import time

import pytest
from processes import STEPS_PER_CALL, TINY, finish, ludus, newest, results, rows, start, struck, wait_until

from ludus.core.errors import UsageError
from ludus.experiment.api import resume
from ludus.experiment.run_directory import RunDirectory
from ludus.storage.arrays import read_arrays

CALLS = 10
LONG = ["train", "ppo", "matrix/climbing", *TINY, "--steps", str(CALLS * STEPS_PER_CALL), "--checkpoint-every", "1000"]
# Every step sleeps in the host, so that one call of the program outlasts the patience of a stop.
SLOW = ["train", "ppo", "faulty:slow", *TINY, "--steps", str(10 * STEPS_PER_CALL), "--env.seconds", "0.05"]


def can_be_resumed(run) -> bool:
    """Whether nobody holds the run, its newest checkpoint is whole, and the rows are as long as it says."""
    directory = RunDirectory.open(run, lock=True)
    _, metadata = read_arrays(directory.checkpoints.paths()[-1])
    long_enough = all(directory.sizes()[file] >= size for file, size in metadata["sizes"].items())
    directory.close()
    return directory.config().environment != "" and long_enough


def start_slow(cwd):
    """A run whose first device call has begun and will not end for long."""
    process = start(*SLOW, "--run-dir", "run", cwd=cwd)
    wait_until(process, lambda: newest(cwd / "run") == 0)
    while "compiled" not in process.stderr.readline():
        pass
    return process


def test_a_run_stopped_by_one_signal_and_then_another_ends_as_if_left_alone(tmp_path):
    run = tmp_path / "run"
    assert ludus(*LONG, "--run-dir", "alone", cwd=tmp_path)[0] == 0
    command = [*LONG, "--run-dir", "run"]
    for number, row in ((signal.SIGINT, 3), (signal.SIGTERM, 6)):
        code, _, err = struck(number, row, *command, cwd=tmp_path)
        assert code == 130 and "Traceback" not in err and "ludus resume" in err
        assert newest(run) == len(rows(run)) == row, "the state at the stop was saved, not only an earlier one"
        command = ["resume", "run"]
    code, _, err = ludus(*command, cwd=tmp_path)
    assert code == 0, err
    assert results(run) == results(tmp_path / "alone")


def test_signal_during_a_long_device_call_leaves_within_ten_seconds(tmp_path):
    process = start_slow(tmp_path)
    with pytest.raises(UsageError, match=rf"in use by another process \(pid {process.pid}\)"):
        resume(tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process, within=10)
    assert code == 130 and "Traceback" not in err
    assert can_be_resumed(tmp_path / "run")


def test_second_signal_ends_at_once_and_the_run_can_be_resumed(tmp_path):
    process = start_slow(tmp_path)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process, within=1.5)
    assert code == 130 and "Traceback" not in err
    assert can_be_resumed(tmp_path / "run")


def test_signal_during_compilation_leaves_within_ten_seconds(tmp_path):
    process = start(*LONG, "--run-dir", "run", cwd=tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")
    wait_until(process, lambda: newest(tmp_path / "run") == 0)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process, within=10)
    assert code == 130 and "Traceback" not in err
    assert newest(tmp_path / "run") == 0 and can_be_resumed(tmp_path / "run")


def test_signal_before_the_first_checkpoint_leaves_without_a_traceback(tmp_path):
    process = start(*LONG, "--run-dir", "run", cwd=tmp_path)
    wait_until(process, lambda: (tmp_path / "run" / "config.toml").exists())
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process, within=10)
    assert code == 130 and "Traceback" not in err
