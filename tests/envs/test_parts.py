"""Parts of packages are imported without the rest, and are the same when the rest comes."""

from __future__ import annotations

import importlib
import sys

import pytest

from ludus.envs.parts import import_part


@pytest.fixture
def package(tmp_path, monkeypatch):
    """`suite.games.chess` needs nothing above it; `suite.games.go` needs what `suite` says."""
    games = tmp_path / "suite" / "games"
    games.mkdir(parents=True)
    (tmp_path / "suite" / "__init__.py").write_text("from .games import chess\nkomi = 7\n")
    (games / "__init__.py").write_text("from . import chess\nloud = True\n")
    (games / "chess.py").write_text("from suite.games import rules\nclass Chess: rules = rules\n")
    (games / "rules.py").write_text("")
    (games / "go.py").write_text("from suite import komi\n")
    (games / "shogi.py").write_text("import suite\nkomi = suite.komi\n")
    (games / "broken.py").write_text("import suite.games.nothing\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [n for n in sys.modules if n.partition(".")[0] == "suite"]:
        del sys.modules[name]


def test_packages_above_a_part_are_not_run_and_have_it_when_they_are(package):
    chess = import_part("suite.games.chess")
    assert "suite" not in sys.modules and "suite.games" not in sys.modules
    assert import_part("suite.games.chess") is chess
    suite = importlib.import_module("suite")
    assert suite.komi == 7 and suite.games.loud
    assert suite.chess is chess and suite.chess.Chess.rules is sys.modules["suite.games.rules"]


@pytest.mark.parametrize("part", ["go", "shogi"])
def test_a_part_that_needs_the_whole_gets_it(package, part):
    assert import_part(f"suite.games.{part}").komi == 7
    assert sys.modules["suite"].komi == 7


def test_what_is_not_there_is_missed_by_its_name(package):
    with pytest.raises(ModuleNotFoundError, match=r"suite\.games\.draughts"):
        import_part("suite.games.draughts")
    with pytest.raises(ModuleNotFoundError, match=r"suite\.games\.nothing"):
        import_part("suite.games.broken")
    with pytest.raises(ModuleNotFoundError, match="no_such_suite"):
        import_part("no_such_suite.games")


@pytest.mark.parametrize("game", ["mpe/simple_spread", "gym/CartPole-v1"])
def test_games_come_without_the_rest_of_their_suite(game):
    """In a process of its own: what draws the suites' games is not imported, and their classes are the suites'."""
    import subprocess

    code = f"""
import sys, ludus
env = ludus.make("{game}")
assert not {{"matplotlib", "seaborn", "jaxmarl.environments.storm"}} & set(sys.modules)
import jaxmarl, gymnax
suite = jaxmarl.make("MPE_simple_spread_v3") if "mpe" in "{game}" else gymnax.make("CartPole-v1")[0]
assert type(suite) is type(env.suite)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
