"""`ludus league` and its verbs, as typed."""

from __future__ import annotations

import json

import pytest

from ludus.cli.main import main

KUHN = ["league", "psro", "spiel/kuhn_poker"]
QUICK = ["--generations", "2", "--steps", "512", "--num-envs", "16", "--rollout-length", "8", "--network.hidden", "8"]


def said(capsys, *words, code=0):
    assert main(list(words)) == code
    return capsys.readouterr()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("league") / "run"
    assert main([*KUHN, *QUICK, "--quiet", "--run-dir", str(path)]) == 0
    return str(path)


def test_json_says_members_ratings_meta_strategy_and_nash_conv(capsys, tmp_path):
    out = said(capsys, *KUHN, "--oracle", "exact", "--json", "--run-dir", str(tmp_path / "run")).out
    found = json.loads(out)
    assert found["nash_conv"] == pytest.approx(0, abs=1e-9)
    assert found["exploitability"] == found["nash_conv"] / 2
    assert {m["role"] for m in found["members"]} == {"player_0", "player_1"}
    assert set(found["ratings"]["elo"]) == {m["name"] for m in found["members"]}
    for mixture in found["meta_strategy"].values():
        assert sum(mixture.values()) == pytest.approx(1)


def test_a_person_sees_who_trains_against_whom(capsys, tmp_path):
    seen = said(capsys, *KUHN, "--oracle", "exact", "--generations", "2", "--run-dir", str(tmp_path / "run"))
    assert "generation   2" in seen.err and "NashConv" in seen.err and "won" in seen.err
    assert "psro in spiel/kuhn_poker: generation 2" in seen.out


def test_verbs(capsys, run):
    assert "oracle" in said(capsys, "league", "status", run).out
    assert "elo" in said(capsys, "league", "ratings", run).out
    cells = json.loads(said(capsys, "league", "payoffs", run, "--json").out)["cells"]
    assert len(cells) == 9 and all(c["games"] is None for c in cells)  # exact
    found = json.loads(said(capsys, "league", "match", run, "player_0-oracle:1", "player_1:0", "--json").out)
    assert found["seatings"][0]["profile"] == ["player_0-oracle:1", "player_1:0"]
    assert "return of" in said(capsys, "evaluate", run, "--member", "player_0-oracle:1").out
    again = json.loads(said(capsys, "league", "resume", run, "--generations", "3", "--json").out)
    assert again["generation"] == 3 and len(again["history"]) == 4


def test_best_response_bounds_exploitability_from_below(capsys, run):
    found = json.loads(said(capsys, "best-response", run, "--steps", "20000", "--json").out)
    assert 0 <= found["exploitability"] <= found["exact_exploitability"] + 1e-6
    assert found["exploitability"] > 0.1 * found["exact_exploitability"]


def test_the_report_is_one_page(capsys, run, tmp_path):
    found = json.loads(said(capsys, "report", run, "--out", str(tmp_path), "--json").out)
    names = {p.rsplit("/", 1)[-1] for p in found["figures"]}
    assert names == {f"{n}.png" for n in ("payoffs", "meta-strategy", "ratings", "lineage", "exploitability")}
    assert "data:image/png" in (tmp_path / "report.html").read_text()


def test_dry_runs_print_members_and_settings(capsys):
    out = said(capsys, "league", "alphastar", "pgx/tic_tac_toe", "--dry-run").out
    assert "league-exploiter" in out and "settings.generations" in out
    found = json.loads(said(capsys, "league", "psro", "mpe/simple_tag", "--dry-run", "--json").out)
    assert any("plays prey" in m for m in found["members"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["league", "prso", "spiel/kuhn_poker"], "'psro'"),
        (["league", "psro", "spiel/kuhn_pokr"], "kuhn_poker"),
        ([*KUHN, "--genrations", "3"], "--generations"),
        ([*KUHN, "--meta-solver", "nsh"], "'nash'"),
        ([*KUHN, "--oracle", "pop"], "'ppo'"),
        ([*KUHN, "--generations", "0"], "at least 1"),
        ([*KUHN, "--steps", "-5"], "at least 1"),
        ([*KUHN, "--learning-rate", "-1"], "at least 0"),
        (["league", "psro", "mpe/simple_spread"], "one team"),
        (["league", "self-play", "mpe/simple_tag", "--roles", "shared"], "separate"),
        (["league", "double-oracle", "pgx/tic_tac_toe"], "--oracle ppo"),
        (["league", "double-oracle", "spiel/kuhn_poker", "--oracle", "ppo"], "psro"),
        (["league", "status", "nowhere"], "no league"),
        (["league", "psro"], "ENVIRONMENT"),
        (["best-response", "nowhere"], "no league"),
    ],
)
def test_wrong_usage_is_one_sentence(capsys, words, sentence):
    err = said(capsys, *words, code=2).err
    assert sentence in err and err.count("\n") == 1


def test_unknown_members_and_used_directories(capsys, run):
    assert "player_0-oracle:1" in said(capsys, "league", "match", run, "player_0-oracl:1", "player_1:0", code=2).err
    assert "never meet" in said(capsys, "league", "match", run, "player_0:0", "player_0-oracle:1", code=2).err
    assert "resume" in said(capsys, *KUHN, *QUICK, "--run-dir", run, code=2).err
