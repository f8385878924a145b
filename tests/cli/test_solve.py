"""`ludus solve`, as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import ludus
from ludus.cli.main import main
from ludus.experiment.solve import METHODS, TREE
from ludus.storage.arrays import read_arrays


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def solved(capsys, *arguments):
    assert main(["solve", *arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


@pytest.mark.parametrize("method", TREE)
def test_every_tree_method_solves_kuhn(capsys, method):
    found = solved(capsys, "spiel/kuhn_poker", "--method", method, "--iterations", "2000")
    temperature = {"mmd": 0.5}  # a quantal response equilibrium of 0.1 keeps its distance from Nash
    bound = temperature.get(method, 0.05)
    assert found["nash_conv"] <= bound
    assert found["exploitability"] == pytest.approx(found["nash_conv"] / 2)
    assert found["value"][0] == pytest.approx(-1 / 18, abs=bound / 2)
    for field in ("iterations", "seconds", "iterations_per_second", "compile_seconds"):
        assert found[field] >= 0


@pytest.mark.parametrize("method", [m for m in METHODS if m not in TREE and m != "shapley"])
def test_every_matrix_method_solves_matching_pennies(capsys, method):
    found = solved(capsys, "matrix/matching_pennies", "--method", method)
    np.testing.assert_allclose(found["value"], 0, atol=1e-3)
    if found["nash_conv"] is not None:
        assert found["nash_conv"] < 0.1


def test_it_stops_at_the_target_and_stores_what_it_found(capsys, tmp_path):
    found = solved(capsys, "spiel/leduc_poker", "--target-exploitability", "0.05", "--out", "here")
    assert found["exploitability"] <= 0.05
    assert found["iterations"] < 1000
    arrays, metadata = read_arrays(tmp_path / "here" / "strategy.safetensors")
    (table,) = arrays.values()
    np.testing.assert_allclose(table.sum(1), 1)
    assert metadata["game"] == "leduc_poker"
    assert (tmp_path / "here" / "convergence.png").read_bytes().startswith(b"\x89PNG")
    curve = json.loads((tmp_path / "here" / "result.json").read_text())["curve"]
    assert curve[-1]["iteration"] == found["iterations"]


def test_defaults_fit_the_game(capsys):
    assert solved(capsys, "spiel/kuhn_poker")["method"] == "cfr+"
    assert solved(capsys, "matrix/rock_paper_scissors")["method"] == "lp"
    assert solved(capsys, "matrix/prisoners_dilemma")["value"] == [-2, -2]
    assert solved(capsys, "spiel/kuhn_poker(players=3)", "--iterations", "300")["nash_conv"] < 0.02
    soccer = solved(capsys, "stochastic/soccer")
    np.testing.assert_allclose(soccer["state_values_at_start"], [0.218484, -0.218484], atol=1e-5)


def test_the_live_view_goes_to_standard_error(capsys):
    assert main(["solve", "spiel/kuhn_poker", "--iterations", "100"]) == 0
    captured = capsys.readouterr()
    assert "NashConv" in captured.err
    assert "exploitability (NashConv / players)" in captured.out
    assert main(["solve", "spiel/kuhn_poker", "--iterations", "100", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""
    assert main(["solve", "--list"]) == 0
    assert capsys.readouterr().out.split() == list(METHODS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["spiel/kuhn_pokr"], "did you mean 'spiel/kuhn_poker'"),
        (["spiel/liars_dice(dice_side=3)"], "did you mean 'dice_sides'"),
        (["spiel/kuhn_poker", "--method", "cfr-bt"], "did you mean 'cfr-br'"),
        (["spiel/kuhn_poker(players=3)", "--method", "double-oracle"], "has 3 players"),
        (["matrix/stag_hunt", "--method", "lp"], "zero-sum"),
        (["matrix/stag_hunt", "--method", "mmd"], "is general-sum"),
        (["matrix/stag_hunt", "--method", "shapley"], "is a matrix"),
        (["stochastic/soccer", "--method", "cfr"], "only 'shapley'"),
        (["stochastic/grid_game_1"], "zero-sum"),
        (["spiel/kuhn_poker", "--method", "lp"], "is a tree"),
        (["spiel/leduc_poker", "--max-nodes", "500"], "more than max_nodes=500"),
        (["spiel/kuhn_poker", "--iterations", "0"], "at least 1"),
        (["spiel/kuhn_poker", "--target-exploitability", "-1"], "at least 0"),
        (["spiel/kuhn_poker", "--out", "/proc/nowhere"], "cannot make the directory"),
        (["matrix/two_step"], "cannot be solved exactly"),
    ],
)
def test_wrong_usage_gets_one_sentence_and_exit_code_2(capsys, arguments, words):
    assert main(["solve", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("ludus: ")
    assert words in error


def test_payoff_tensors_from_python():
    found = ludus.solve([[[1, -1], [-1, 1]], [[-1, 1], [1, -1]]])
    np.testing.assert_allclose(found.value, 0, atol=1e-9)
    for bad, words in (
        ([[1, 2], [3, 4]], "2 payoffs"),
        ([[[np.nan, 0]], [[0, 0]]], "NaN"),
    ):
        with pytest.raises(ludus.UsageError, match=words):
            ludus.solve(bad)
