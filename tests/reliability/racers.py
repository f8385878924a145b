"""Start many `ludus` commands at the same moment: `python racers.py COUNT DIRECTORY ARGUMENTS…`.

The packages are imported once; every racer is a fork that stands behind a barrier. Racer k writes `k.out`, `k.err`
and `k.code` into the directory.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback

from jax._src import xla_bridge

import ludus.envs.matrix
import ludus.experiment.api  # noqa: F401
from ludus.cli.main import main


def race(k: int, barrier, directory: str, arguments: list[str]) -> None:
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{directory}/{k}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
    barrier.wait()
    try:
        code = main(arguments)
    except BaseException:
        traceback.print_exc()
        code = -1
    sys.stdout.flush()
    sys.stderr.flush()
    with open(f"{directory}/{k}.code", "w") as file:
        file.write(str(code))
    os._exit(0)


if __name__ == "__main__":
    assert not xla_bridge.backends_are_initialized(), "forks need a fresh runtime"
    fork = multiprocessing.get_context("fork")
    count, directory, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    barrier = fork.Barrier(count)
    racers = [fork.Process(target=race, args=(k, barrier, directory, arguments)) for k in range(count)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
