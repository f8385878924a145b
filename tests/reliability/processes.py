"""Runs in processes of their own, and what they leave on the disk."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

LUDUS = (sys.executable, "-m", "ludus.cli.main")
HERE = Path(__file__).parent
TINY = [
    *("--num-envs", "4", "--rollout-length", "8", "--minibatches", "1", "--epochs", "1"),
    *("--network.hidden", "8", "--evaluate-episodes", "4"),
]
STEPS_PER_CALL = 8192  # with TINY, a call of the device program plays 256 iterations of 32 steps


def start(*arguments: str, cwd: Path, program=LUDUS, **environment: str) -> subprocess.Popen[str]:
    """`ludus ARGUMENTS` in a process, on one device; streams are captured."""
    env = os.environ | {
        "LUDUS_HOST_DEVICES": "1",
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    env.pop("XLA_FLAGS", None)
    return subprocess.Popen(
        (*program, *arguments),
        cwd=cwd,
        env=env | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], within: float = 600.0) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    try:
        out, err = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still running after {within} s; it said:\n{out}{err}") from None
    return process.returncode, out, err


def ludus(*arguments: str, cwd: Path, **environment: str) -> tuple[int, str, str]:
    """Run `ludus ARGUMENTS` to its end."""
    return finish(start(*arguments, cwd=cwd, **environment))


def wait_until(process: subprocess.Popen[str], true: Callable[[], bool], within: float = 120.0) -> None:
    """Watch a running process until something holds."""
    end = time.monotonic() + within
    while not true():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"ended (code {process.returncode}) or too slow before the moment came:\n{out}{err}")
        time.sleep(0.005)


def struck(number: signal.Signals, row: int, *arguments: str, cwd: Path, **environment: str) -> tuple[int, str, str]:
    """Run `ludus ARGUMENTS`, which gets a signal just after the metrics of call `row` were written."""
    program = (sys.executable, str(HERE / "struck.py"), number.name, str(row))
    return finish(start(*arguments, cwd=cwd, program=program, **environment))


def stop(process: subprocess.Popen[str]) -> None:
    """Kill it as a power cut would."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it had ended before the kill"


def newest(run: Path) -> int:
    """The number of the newest checkpoint; −1 if there is none."""
    return max((int(path.stem) for path in (run / "checkpoints").glob("[0-9]*.safetensors")), default=-1)


def rows(run: Path, file: str = "metrics.jsonl") -> list[dict]:
    """The rows of a row file."""
    path = run / file
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def results(run: Path) -> dict[str, str]:
    """Hashes of what a run computed: last checkpoint, policies, metrics, evaluations."""
    files = [run / "metrics.jsonl", run / "evaluations.jsonl", run / "checkpoints" / f"{newest(run):012d}.safetensors"]
    files += (run / "policies").rglob("*.safetensors")
    return {str(path.relative_to(run)): digest(path) for path in sorted(files)}


def everything(run: Path) -> dict[str, str]:
    """Hashes of every file of a run but its lock."""
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(run)): digest(path) for path in files}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_one_sentence(text: str) -> bool:
    """Whether an error is a single line of Ludus's own, without a traceback."""
    lines = [line for line in text.strip().splitlines() if line.startswith("ludus: ")]
    return len(lines) == 1 and text.strip().endswith(lines[0]) and "Traceback" not in text
