"""A full disk or a directory that cannot be written: one sentence, exit code 2, and what was there stays."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess

import pytest
from processes import STEPS_PER_CALL, TINY, everything, is_one_sentence, newest

from ludus.cli.main import main

COMMAND = ["train", "ppo", "matrix/climbing", *TINY, "--checkpoint-every", "0"]


def train(run, calls: int = 3) -> int:
    return main([*COMMAND, "--steps", str(calls * STEPS_PER_CALL), "--quiet", "--run-dir", str(run)])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB, where the system lets us have one."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(path)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting is not permitted here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def fill(disk) -> None:
    """Use every byte that is left."""
    with open(disk / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError as error:
            assert error.errno == errno.ENOSPC


def test_a_run_directory_below_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        assert train(path) == 2
        err = capsys.readouterr().err
        assert is_one_sentence(err) and str(path) in err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_run_directory_without_permission_is_refused(tmp_path, capsys):
    tmp_path.chmod(0o500)
    try:
        assert train(tmp_path / "run") == 2
    finally:
        tmp_path.chmod(0o700)
    assert is_one_sentence(capsys.readouterr().err)


@pytest.mark.parametrize("nth", [1, 2, 4])
def test_no_space_for_the_nth_file_ends_with_one_sentence_and_whole_checkpoints(tmp_path, monkeypatch, capsys, nth):
    """The files of a run in order: versions, configuration, checkpoint 0, checkpoint 1, …"""
    run, calls, replace = tmp_path / "run", [], os.replace

    def full(source, target):
        calls.append(target)
        if len(calls) >= nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr("ludus.storage.files.os.replace", full)
    assert train(run) == 2
    err = capsys.readouterr().err
    assert is_one_sentence(err) and "no space left" in err and str(calls[-1]) in err
    assert not list(run.rglob("*.tmp")), "half a file was left"
    assert newest(run) == max(nth - 4, -1), "what was written before stays"


def test_no_space_to_make_rows_durable_ends_with_one_sentence(tmp_path, monkeypatch, capsys):
    run, fsync = tmp_path / "run", os.fsync

    def full(descriptor):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("metrics.jsonl"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert train(run) == 2
    err = capsys.readouterr().err
    assert is_one_sentence(err) and "no space left" in err


def test_a_full_disk_stops_a_resumed_run_and_its_checkpoints_stay(small_disk, tmp_path, capsys):
    run, kept = small_disk / "run", tmp_path / "kept"
    assert train(run) == 0
    shutil.rmtree(run / "policies")
    sorted((run / "checkpoints").iterdir())[-1].unlink()
    shutil.copytree(run, kept)
    fill(small_disk)
    assert main(["resume", str(run), "--quiet"]) == 2
    err = capsys.readouterr().err
    assert is_one_sentence(err) and "no space left" in err and str(run) in err
    assert everything(run / "checkpoints") == everything(kept / "checkpoints")
    (small_disk / "filler").unlink()
    assert main(["resume", str(run), "--quiet"]) == 0


def test_a_disk_that_is_full_from_the_start(small_disk, capsys):
    (small_disk / "run").mkdir()
    fill(small_disk)
    for path in (small_disk / "run", small_disk / "new"):
        assert train(path) == 2
        err = capsys.readouterr().err
        assert is_one_sentence(err) and "no space left" in err and str(path) in err
