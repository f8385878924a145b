"""Match, freeze and reset rules on scripted payoffs; figures from the acceptance facts and the papers named there."""

from __future__ import annotations

import numpy as np
import pytest

import ludus
from ludus.league.anytime import Anytime
from ludus.league.league import over_seats
from ludus.league.matchmaking import (
    PFSP,
    AgainstMains,
    AlphaStarMain,
    History,
    Pipeline,
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
from ludus.league.presets import Choice, plan
from ludus.league.ratings import elo, expected_score, nash_average, ratings
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
    seen = view([main, hunter], frozen, rates)
    found, strict = as_dict(AgainstMains()(seen, hunter)), as_dict(AgainstMains(0.2, share=1.0)(seen, hunter))
    assert found["@main"] == pytest.approx(1.0 if live else 0.5) and ("@main" in strict) == live
    if not live:
        curriculum = pfsp(np.array([0.5, 0.1]), "variance")
        np.testing.assert_allclose([found["main:1"], found["main:2"]], 0.5 * curriculum)
        np.testing.assert_allclose([strict["main:1"], strict["main:2"]], curriculum)


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


def test_qualities_tell_opponents_apart_after_any_number_of_games():
    """Thousands of games are more than a step of 1 for everybody: what is kept is who was beaten how often."""
    q = quality_update(np.zeros(2), np.array([3000.0, 9500.0]))
    np.testing.assert_allclose(q, [-3000 / 9500, -1.0])


def test_whom_few_games_were_won_against_is_met_again():
    """Five wins in five games are no reason for f_hard's weight of 0: `WhenStrong` waits for 30 games."""
    hunter, main = member("hunter", "league-exploiter", match=PFSP()), member()
    frozen = [("main:1", "main"), ("main:2", "main")]
    rates = {("@hunter", "main:1"): 1.0, ("@hunter", "main:2"): 0.5}
    few = as_dict(PFSP()(view([main, hunter], frozen, rates, games=2.5), hunter))
    cautious = 0.5 + 0.5 * 5 / 30  # rates count both seats: five games of the thirty that are asked for
    np.testing.assert_allclose([few["main:1"], few["main:2"]], pfsp(np.array([cautious, 0.5])))
    assert set(as_dict(PFSP()(view([main, hunter], frozen, rates), hunter))) == {"main:2"}


def test_where_all_is_won_against_every_role_somebody_is_met_all_the_same():
    spec = ludus.make("spiel/kuhn_poker(players=3)").spec
    roles = {team: team for team in spec.teams}
    members = {t: Member(t, t, None, PFSP(), Every(), GoOn()) for t in spec.teams}
    population, table = Population(), PayoffTable(3)
    for k, t in enumerate(spec.teams):
        population.add(Entry(f"{t}:0", t, t, None, 0, 0, f"file{k}"))
    own, *others = spec.teams
    table.add((f"@{own}", *(f"{t}:0" for t in others)), 100, np.zeros(3), np.zeros(3), np.array([100.0, 0.0, 0.0]))
    seen = View(
        1, spec, roles, population, table, members, {t: Progress() for t in members}, {}, None, np.random.default_rng(0)
    )
    match = members[own].match(seen, members[own])
    assert match.profiles == (tuple(f"{t}:0" for t in others),) and match.weights.sum() == pytest.approx(1.0)


def test_anytime_weighs_by_what_is_paid_and_not_by_how_many_games_are_won():
    """`folds` loses nearly all games, a chip each; `gambles` fewer, and many chips: it is the worse one to play."""
    members = [Member(name, name, None, Anytime(), Every(), GoOn()) for name in ROLES]
    row, column = members
    population, table = Population(), PayoffTable(2)
    for k, (name, won, paid) in enumerate([("folds", 0.95, 0.9), ("gambles", 0.6, 5.0)]):
        population.add(Entry(name, column.name, column.name, None, 0, 0, f"file{k}"))
        returns, score = np.array([paid, -paid]), np.array([won, 1 - won])
        table.add((f"@{row.name}", name), 100, 100 * returns, 100 * returns**2, 100 * score)
    roles, everyone = {t: t for t in ROLES}, {m.name: m for m in members}
    progress = {m.name: Progress() for m in members}
    seen = View(1, SPEC, roles, population, table, everyone, progress, {}, None, np.random.default_rng(0))
    row.match.learn(seen, row, {})
    weights = row.match.weights(seen, row)
    assert weights["folds"] > 0.6 > weights["gambles"]


def test_a_pipelines_upper_levels_meet_the_equilibrium_with_the_lower_ones():
    """Rock and paper are frozen on both sides, and the lower live members play scissors: the upper one meets all three
    alike, as in rock-paper-scissors. The lowest meets the frozen meta-strategy."""
    sides = {team: [Member(f"{team}-{k}", team, None, Pipeline(), Every(), GoOn()) for k in (1, 2)] for team in ROLES}
    population, table = Population(), PayoffTable(2)
    names = {team: [f"{team}:rock", f"{team}:paper", f"@{low.name}"] for team, (low, _) in sides.items()}
    for team in ROLES:
        for name in names[team][:2]:
            population.add(Entry(name, team, "start", None, 0, 0, name))
    row, column = names.values()
    for i, own in enumerate(row):
        for j, other in enumerate(column):
            paid = float((i - j + 1) % 3 - 1)  # 1 if i beats j, 0 for a tie
            score = np.array([0.5 + paid / 2, 0.5 - paid / 2])
            table.add((own, other), 100, 100 * np.array([paid, -paid]), np.full(2, 100.0), 100 * score)
    everyone = {m.name: m for members in sides.values() for m in members}
    progress = {name: Progress(since=2 if name.endswith("1") else 1) for name in everyone}
    mixtures = {team: {own[1]: 1.0} for team, own in names.items()}
    roles = {t: t for t in ROLES}
    random = np.random.default_rng(0)
    seen = View(1, SPEC, roles, population, table, everyone, progress, mixtures, None, random)
    low, high = next(iter(sides.values()))
    assert as_dict(high.match(seen, high)) == pytest.approx(dict.fromkeys(column, 1 / 3), abs=1e-6)
    assert as_dict(low.match(seen, low)) == {column[1]: 1.0}


@pytest.mark.parametrize(
    ("name", "freeze", "gate", "share", "weighting"),
    [("alphastar", Every, 0.2, 0.5, "squared"), ("alphastar-pseudocode", WhenStrong, 0.1, 1.0, "capped")],
)
def test_alphastars_members_carry_the_published_numbers(name, freeze, gate, share, weighting):
    members = plan(name, ROLES, Choice(ludus.PPO(), period=3)).members
    main, hunter, *leaguers = members
    assert main.match == AlphaStarMain(0.35, 0.5, 0.15, 0.3) and type(main.freeze) is freeze and main.reset == GoOn()
    assert hunter.match == AgainstMains(gate, share) and hunter.reset == Restart(1.0)
    assert hunter.freeze == WhenStrong("mains", 0.7, least=3, most=6)
    assert [m.match for m in leaguers] == [PFSP(weighting)] * 2
    assert all(m.freeze == WhenStrong("past", 0.7, least=3, most=6) and m.reset == Restart(0.25) for m in leaguers)
    assert {m.decay for m in members} == {0.99}


def test_a_policy_that_is_found_again_is_the_newest_again():
    population = Population()
    for k, file in enumerate(("rock", "paper", "rock")):
        population.add(Entry(f"main:{k}", "players", "main", None, k, 0, file))
    assert [(e.file, e.count) for e in population.of("players")] == [("paper", 1), ("rock", 2)]


def test_a_seat_that_wins_more_does_not_make_its_policies_stronger():
    """Both win 70 % when they move first and are equals: Nash averages are 0."""
    population, table = Population(), PayoffTable(2)
    for k, name in enumerate(("a", "b")):
        population.add(Entry(name, "players", "main", None, k, 0, f"file{k}"))
    for profile in (("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")):
        table.add(profile, 100, np.zeros(2), np.ones(2), np.array([70.0, 30.0]))
    found = ratings(population, table, SPEC.teams, ROLES)["nash_average"]
    assert found == pytest.approx({"a": 0.0, "b": 0.0}, abs=1e-9)


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
    one_by_one = PayoffTable(2)
    for score in ([1.0, 0.0],) * 10 + ([0.0, 1.0],) * 10:
        one_by_one.add(("a", "b"), 1, one, one, np.array(score), decay=0.9)
    assert table.between("a", "b") == pytest.approx(one_by_one.between("a", "b"))
    assert table.between("a", "b")[1] < 0.3  # the newest ten games weigh more than the ten before
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
