"""One process at a time owns a run directory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ludus.core.errors import UsageError
from ludus.storage.lock import DirectoryLock

HOLDER = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
os.write(descriptor, str(os.getpid()).encode())
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_owner_is_refused_until_the_first_lets_go(tmp_path):
    first = DirectoryLock(tmp_path / "run")
    with pytest.raises(UsageError, match=f"in use by another process .pid {os.getpid()}."):
        DirectoryLock(tmp_path / "run")
    first.release()
    DirectoryLock(tmp_path / "run").release()


def test_another_process_that_dies_lets_go(tmp_path):
    """Oracle: the operating system; the holder is killed, not asked."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"pid {holder.pid}"):
            DirectoryLock(tmp_path)
        holder.kill()
    DirectoryLock(tmp_path).release()


def test_a_directory_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        with pytest.raises(UsageError, match=f"cannot use .*{place} as a run directory"):
            DirectoryLock(tmp_path / place)
