from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from ludus.cli.main import main

SHORT = [
    "--num-envs",
    "4",
    "--rollout-length",
    "8",
    "--network.hidden",
    "8",
    "--evaluate-episodes",
    "4",
    "--steps",
    "64",
]
TINY = [*SHORT, "--minibatches", "1", "--epochs", "1"]  # of PPO


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on standard output."""
        return json.loads(self.out)

    def refuses(self, *parts: str) -> None:
        """It is wrong usage: exit code 2, a message with these parts, nothing else printed, no traceback."""
        assert self.code == 2, self
        assert self.out == "" and "Traceback" not in self.err
        lines = self.err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("ludus: "), f"more than one sentence:\n{self.err}"
        for part in parts:
            assert part in lines[0]


@pytest.fixture
def ludus(capsys, tmp_path, monkeypatch):
    """`ludus("train", …)` in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        try:
            code = main(list(arguments))
        except SystemExit as exit:
            code = exit.code
        return Said(code, *capsys.readouterr())

    return run


def trained(tmp_path_factory, name: str, *arguments: str) -> str:
    path = str(tmp_path_factory.mktemp(name) / "run")
    assert main(["train", *arguments, "--run-dir", path, "--quiet"]) == 0
    return path


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished run of a zero-sum game, two seeds."""
    return trained(
        tmp_path_factory, "pennies", "ppo", "matrix/rock_paper_scissors", *TINY, "--seeds", "2", "--seed", "3"
    )


@pytest.fixture(scope="session")
def other_run(tmp_path_factory):
    """Another run of the same game, by another algorithm."""
    return trained(tmp_path_factory, "others", "a2c", "matrix/rock_paper_scissors", *SHORT, "--seed", "7")


@pytest.fixture(scope="session")
def spread_run(tmp_path_factory):
    """A finished run of a game that can be drawn."""
    return trained(tmp_path_factory, "spread", "ppo", "mpe/simple_spread", *TINY, "--env.max-steps", "6")


@pytest.fixture(scope="session")
def board_run(tmp_path_factory):
    """A finished run of a board game."""
    return trained(tmp_path_factory, "board", "ppo", "pgx/tic_tac_toe", *TINY)
