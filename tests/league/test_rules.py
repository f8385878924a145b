"""Match, freeze and reset rules on scripted payoffs; figures from the acceptance facts and the papers named there."""

from __future__ import annotations

import numpy as np
import pytest

import ludus
from ludus.league.league import over_seats
from ludus.league.matchmaking import (
    PFSP,
    AgainstMains,
    AlphaStarMain,
    History,
    Quality,
    SelfPlay,
    pfsp,
    quality_softmax,
    quality_update,
    without_monotone_suffix,
)
from ludus.league.member import FRESH, Member
from ludus.league.payoffs import PayoffTable
from ludus.league.population import Entry, Population
from ludus.league.population_based import Exploit
from ludus.league.ratings import elo, expected_score, nash_average
from ludus.league.rules import Branch, Every, Evolve, GoOn, Restart, WhenStrong
from ludus.league.view import SELF, Match, Progress, View

SPEC = ludus.make("matrix/rock_paper_scissors").spec
ROLES = dict.fromkeys(SPEC.teams, "players")


def member(name="main", kind="main", match=None, freeze=None, reset=None):
    return Member(name, "players", None, match or SelfPlay(), freeze or Every(), reset or GoOn(), kind=kind)


def view(members, frozen=(), rates=None, games=100.0, seed=0):
    """A league of these members; `frozen` are (name, member), `rates` (own, other) -> share won by own."""
    population = Population()
    for k, (name, by) in enumerate(frozen):
        population.add(Entry(name, "players", by, None, k, 0, f"file{k}"))
    table = PayoffTable(2)
    for (own, other), rate in (rates or {}).items():
        for profile, score in (((own, other), [rate, 1 - rate]), ((other, own), [1 - rate, rate])):
            score = np.array(score) * games
            table.add(profile, games, 2 * score - games, np.full(2, games), score)
    everyone = {m.name: m for m in members}
    progress = {name: Progress(since=1) for name in everyone}
    random = np.random.default_rng(seed)
    return View(1, SPEC, ROLES, population, table, everyone, progress, {}, None, random)


def as_dict(match):
    return {p[0]: w for p, w in zip(match.profiles, match.weights, strict=True)}


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("squared", (0.7570, 0.2336, 0.0093)),
        ("linear", (0.6, 0.3333, 0.0667)),
        ("variance", (0.2093, 0.5814, 0.2093)),
        ("capped", (0.4545, 0.4545, 0.0909)),
    ],
)
def test_pfsp_weights_are_those_of_the_paper(weighting, expected):
    np.testing.assert_allclose(pfsp(np.array([0.1, 0.5, 0.9]), weighting), expected, atol=5e-5)


@pytest.mark.parametrize("rates", [np.ones(4), np.zeros(4)])
@pytest.mark.parametrize("weighting", ["squared", "linear", "variance", "capped"])
def test_pfsp_has_no_nan_where_all_is_won_or_lost(weighting, rates):
    np.testing.assert_allclose(pfsp(rates, weighting), 0.25)


def test_unknown_weightings_name_the_nearest():
    with pytest.raises(ludus.UsageError, match="squared"):
        pfsp(np.ones(2), "sqared")


def test_before_anything_is_frozen_everybody_plays_itself():
    for rule in (SelfPlay(), History(), PFSP(), Quality()):
        main = member(match=rule)
        assert as_dict(rule(view([main]), main)) == {SELF: 1.0}


def test_a_main_agent_branches_35_50_15():
    """Past policies are won against evenly, main exploiters rarely: each branch has its own opponents."""
    main = member()
    exploiter = member("hunter", "main-exploiter")
    frozen = [("main:1", "main"), ("main:2", "main"), ("hunter:1", "hunter")]
    rates = {("@main", "main:1"): 0.5, ("@main", "main:2"): 0.5, ("@main", "hunter:1"): 0.1}
    found = as_dict(AlphaStarMain()(view([main, exploiter], frozen, rates), main))
    weights = pfsp(np.array([0.5, 0.5, 0.1]))
    assert found[SELF] == pytest.approx(0.35)
    assert found["main:1"] == pytest.approx(0.5 * weights[0])
    assert found["hunter:1"] == pytest.approx(0.5 * weights[2] + 0.15)
    assert sum(found.values()) == pytest.approx(1.0)


def test_forgotten_mains_take_the_last_branch_and_without_any_it_is_self_play():
    main = member()
    frozen = [("main:1", "main"), ("main:2", "main"), ("main:3", "main")]
    rates = {("@main", "main:1"): 0.4, ("@main", "main:2"): 0.9, ("@main", "main:3"): 0.5}
    rule = AlphaStarMain()
    forgotten = as_dict(rule.verification(view([main], frozen, rates), main))
    # the falling end (0.9, 0.5) is what newer mains make; before it stand 0.4 and 0.9
    np.testing.assert_allclose([forgotten["main:1"], forgotten["main:2"]], pfsp(np.array([0.4, 0.9])))
    never = {("@main", f"main:{k}"): 0.95 for k in (1, 2, 3)}
    assert rule.verification(view([main], frozen, never), main) is None
    assert as_dict(rule(view([main], frozen, never), main))[SELF] == pytest.approx(0.5)


@pytest.mark.parametrize(("rates", "kept"), [([0.9, 0.8, 0.5], 0), ([0.2, 0.9, 0.8], 2), ([0.5, 0.6], 2), ([], 0)])
def test_the_monotone_suffix_is_removed(rates, kept):
    assert without_monotone_suffix(np.array(rates)) == kept


def test_a_main_that_is_lost_to_is_met_in_its_past():
    main, other = member(), member("second")
    frozen = [("second:1", "second"), ("second:2", "second")]
    rates = {("@main", "@second"): 0.2, ("@main", "second:1"): 0.5, ("@main", "second:2"): 0.1}
    found = as_dict(AlphaStarMain(1.0, 0.0, 0.0)(view([main, other], frozen, rates), main))
    variance = pfsp(np.array([0.5, 0.1]), "variance")
    assert found == pytest.approx({SELF: 0.5, "second:1": 0.5 * variance[0], "second:2": 0.5 * variance[1]})


@pytest.mark.parametrize(("rate", "live"), [(0.25, True), (0.15, False)])
def test_a_main_exploiter_meets_the_live_main_only_above_its_gate(rate, live):
    main, hunter = member(), member("hunter", "main-exploiter")
    frozen = [("main:1", "main"), ("main:2", "main")]
    rates = {("@hunter", "@main"): rate, ("@hunter", "main:1"): 0.5, ("@hunter", "main:2"): 0.1}
    found = as_dict(AgainstMains(0.2)(view([main, hunter], frozen, rates), hunter))
    assert ("@main" in found) == live
    if not live:
        np.testing.assert_allclose([found["main:1"], found["main:2"]], pfsp(np.array([0.5, 0.1]), "variance"))


@pytest.mark.parametrize(
    ("rate", "games", "since", "freezes"),
    [
        (0.75, 100, 1, True),  # strong
        (0.65, 100, 1, False),  # not strong enough
        (0.75, 10, 1, False),  # too few games say nothing
        (0.75, 100, 0, False),  # before its time
        (0.10, 100, 4, True),  # after its time
    ],
)
def test_the_seventy_percent_rule(rate, games, since, freezes):
    main, hunter = member(), member("hunter", "main-exploiter")
    seen = view([main, hunter], [], {("@hunter", "@main"): rate}, games=games)
    seen.progress["hunter"].since = since
    assert WhenStrong("mains", 0.7, least=1, most=4, games=30)(seen, hunter) is freezes


def test_a_league_exploiter_must_beat_all_of_the_past():
    hunter = member("hunter", "league-exploiter")
    frozen = [("main:1", "main"), ("main:2", "main")]
    main = member()
    rule = WhenStrong("past", least=1, most=9)
    both = {("@hunter", "main:1"): 0.8, ("@hunter", "main:2"): 0.8}
    assert rule(view([main, hunter], frozen, both), hunter)
    assert not rule(view([main, hunter], frozen, {**both, ("@hunter", "main:2"): 0.6}), hunter)
    assert not rule(view([main, hunter]), hunter)


def test_resets():
    main, hunter = member(), member("hunter", "league-exploiter")
    fresh = [Restart(0.25)(view([main, hunter], seed=s), hunter) for s in range(2000)]
    assert fresh.count(FRESH) / 2000 == pytest.approx(0.25, abs=0.03)
    assert Restart()(view([main, hunter]), hunter) == FRESH
    assert Branch()(view([main, hunter]), hunter) == "@main"
    assert GoOn()(view([main]), main) is None
    frozen = [("hunter:1", "hunter"), ("hunter:2", "hunter")]
    rates = {("@main", "hunter:1"): 0.1, ("@main", "hunter:2"): 1.0}
    chosen = {Evolve(0.0)(view([main, hunter], frozen, rates, seed=s), hunter) for s in range(50)}
    assert chosen == {"hunter:1"}


def test_openai_fives_quality():
    q = quality_update(np.zeros(4), np.array([0.0, 0.0, 1.0, 0.0]))
    np.testing.assert_allclose(q, [0, 0, -0.01, 0], atol=1e-12)
    np.testing.assert_allclose(quality_softmax(q), [0.25062, 0.25062, 0.24813, 0.25062], atol=5e-6)


def test_openai_five_plays_the_past_in_a_fifth_of_games_and_remembers_quality():
    main, rule = member(), Quality()
    seen = view([main], [("main:1", "main"), ("main:2", "main")])
    assert as_dict(rule(seen, main)) == pytest.approx({SELF: 0.8, "main:1": 0.1, "main:2": 0.1})
    rule.learn(seen, main, {"main:1": 50.0})
    found = as_dict(rule(seen, main))
    assert found["main:1"] < found["main:2"]
    assert seen.progress["main"].memory["quality"]["main:1"] == pytest.approx(-0.01 * 50 / (2 * 0.5))


def test_ratings():
    assert expected_score(200) == pytest.approx(0.75975, abs=1e-5)
    truth = np.array([150.0, 0.0, -150.0])
    scores = expected_score(truth[:, None] - truth[None])
    np.testing.assert_allclose(elo(scores, np.full((3, 3), 500.0)), truth, atol=0.5)
    cycle = np.array([[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]])
    np.testing.assert_allclose(nash_average(cycle), 0, atol=1e-9)
    best = np.array([[0.5, 0.9], [0.1, 0.5]])
    np.testing.assert_allclose(nash_average(best), [0, -0.4], atol=1e-9)


def test_old_games_decay():
    table = PayoffTable(2)
    one = np.ones(2)
    table.add(("a", "b"), 10, 10 * one, 10 * one, np.array([10.0, 0.0]), decay=0.9)
    table.add(("a", "b"), 10, 0 * one, 10 * one, np.array([0.0, 10.0]), decay=0.9)
    games, rate = table.between("a", "b")
    assert games == pytest.approx(10 + 10 * 0.9**10)
    assert rate == pytest.approx(10 * 0.9**10 / games)
    assert table.between("a", "nobody") == (0.0, 0.5)


def test_more_opponents_than_there_is_room_for_are_sampled_without_bias():
    weights = np.arange(1, 201, dtype=float)
    match = Match(tuple((f"p{k}",) for k in range(200)), weights).normalised()
    total = dict.fromkeys(match.profiles, 0.0)
    for seed in range(400):
        few = match.at_most(64, np.random.default_rng(seed))
        assert len(few.profiles) <= 64
        for profile, weight in zip(few.profiles, few.weights, strict=True):
            total[profile] += weight / 400
    np.testing.assert_allclose(list(total.values()), match.weights, atol=2.5e-3)


def test_where_nobody_wins_returns_take_the_place_of_shares():
    table = PayoffTable(2, by_return=True)
    for other, mean in (("weak", 30.0), ("middle", 20.0), ("strong", 10.0)):
        returns = np.array([mean, -mean])
        table.add(("hunter", other), 10, 10 * returns, 10 * returns**2, np.array([10.0, 0.0]))
    assert [table.between("hunter", o)[1] for o in ("weak", "middle", "strong")] == [1.0, 0.5, 0.0]
    assert table.between("strong", "hunter")[1] == 1.0


def test_qualities_stay_finite_when_a_rare_opponent_is_beaten_often():
    main, rule = member(), Quality()
    seen = view([main], [("main:1", "main"), ("main:2", "main")])
    for _ in range(200):
        rule.learn(seen, main, {"main:1": 50_000.0, "main:2": 3.0})
        found = as_dict(rule(seen, main))
        assert np.isfinite(list(found.values())).all() and found[SELF] == pytest.approx(0.8)


def test_only_the_lowest_quarter_of_a_population_exploits_whatever_the_order():
    members = [member(f"m{k}") for k in range(8)]
    rates = {(f"@m{a}", f"@m{b}"): 0.9 if a > b else 0.1 for a in range(8) for b in range(a)}
    seen = view(members, [], rates)
    for m in members:
        seen.progress[m.name].memory["settings"] = {"learning_rate": 1e-3}
    answers = {m.name: Exploit()(seen, m) for m in members}
    assert {n for n, a in answers.items() if a is not None} == {"m0", "m1"}
    assert set(answers.values()) <= {None, "=m6", "=m7"}
    assert seen.progress["m0"].memory["settings"]["learning_rate"] in (8e-4, 1.25e-3)


def test_payoffs_over_seats_are_those_of_drawn_seats():
    """Oracle: every turn of the table, by hand, for two and three players."""
    for players in (2, 3):
        payoffs = np.random.default_rng(players).normal(size=(*[3] * players, players))
        expected = np.zeros_like(payoffs)
        for names in np.ndindex(*[3] * players):
            for shift in range(players):
                seated = [0] * players
                for k in range(players):
                    seated[(k + shift) % players] = names[k]
                for k in range(players):
                    expected[(*names, k)] += payoffs[tuple(seated)][(k + shift) % players] / players
        np.testing.assert_allclose(over_seats(payoffs), expected)
