"""What the verdicts of `fastloss bench --against` rest on: simulated machines whose truth is known."""

import math

import mpmath
import numpy as np
import pytest
from amounts import few_or_many

from fastloss.bench import student
from fastloss.bench.estimate import CONFIDENCE, Estimate, estimate
from fastloss.bench.judge import ALPHA, FASTER, SAME, SLOWER, UNCERTAIN, Judge, allowance, holm, pairs_at
from fastloss.bench.same_code import detectable, false_alarm_rate


class Machine:
    """A shared machine: each process has a speed of its own, rounds scatter with heavy tails, and now and then something else runs."""

    def __init__(self, seed, *, processes=0.02, rounds=0.02, disturbed=0.05):
        self.rng = np.random.default_rng(seed)
        self.processes, self.rounds, self.disturbed = processes, rounds, disturbed

    def pair(self, true_ratio=1.0, n_rounds=5):
        """Log ratios of the rounds of one pair of processes."""
        own = self.rng.normal(0, self.processes) - self.rng.normal(0, self.processes)
        noise = self.rounds * self.rng.standard_t(3, n_rounds)
        noise += (self.rng.random(n_rounds) < self.disturbed) * self.rng.normal(0, 0.5, n_rounds)
        return math.log(true_ratio) + own + noise

    def compare(self, true_ratios, *, limit, looks):
        """Verdicts on cases of these true ratios after at most so many looks."""
        judge, data, open_cases = Judge(limit), {name: [] for name in true_ratios}, list(true_ratios)
        while open_cases and judge.looks < looks:
            for name in open_cases:
                while len(data[name]) < pairs_at(judge.looks + 1):
                    data[name].append(self.pair(true_ratios[name]))
            open_cases = judge.look({name: estimate(pairs) for name, pairs in data.items()})
        return judge.verdicts


def same_code(n_cases):
    return {f"case {i}": 1.0 for i in range(n_cases)}


# --- Student's t -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 8, 13, 40])
def test_tails_of_students_t(degrees):
    for t in (-2.5, 0.0, 0.3, 1.0, 2.7, 9.0, 30.0):
        half = mpmath.betainc(degrees / 2, 0.5, 0, degrees / (degrees + mpmath.mpf(t) ** 2), regularized=True) / 2
        assert student.upper_tail(t, degrees) == pytest.approx(float(half if t >= 0 else 1 - half), abs=1e-13)
    for tail in (0.4, 0.025, 1e-3, 1e-6):
        assert student.upper_tail(student.upper_quantile(tail, degrees), degrees) == pytest.approx(tail, rel=1e-6)
    np.testing.assert_array_equal(student.upper_tail([0.3, 1.0], degrees)[1], student.upper_tail(1.0, degrees))


def test_chi_square():
    for degrees, exact in ((5, 1.145), (9, 3.325), (30, 18.493)):  # of a table, for 0.05
        assert student.chi_square_lower(0.05, degrees) == pytest.approx(exact, rel=0.02)


# --- estimates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [{"processes": 0.02}, {"processes": 0.0}, {"rounds": 0.002}], ids=str)
@pytest.mark.parametrize("n_pairs", [6, 14])
def test_intervals_cover_as_often_as_they_say(noise, n_pairs):
    machine, hits = Machine(7, **noise), 0
    for _ in range(400):
        low, high = estimate([machine.pair(1.1) for _ in range(n_pairs)]).interval()
        hits += low <= 1.1 <= high
    assert hits / 400 >= CONFIDENCE - 0.03  # not quite three standard errors of 400 tries below


def test_rounds_of_one_process_are_not_independent():
    """Pooled, as if they were, 300 rounds of three pairs would exclude the truth nearly always."""
    machine, pooled, clustered = Machine(3, rounds=0.005, disturbed=0), 0, 0
    for _ in range(200):
        pairs = [machine.pair(n_rounds=100) for _ in range(3)]
        low, high = estimate([[ratio] for pair in pairs for ratio in pair]).interval()
        pooled += low <= 1 <= high
        low, high = estimate(pairs).interval()
        clustered += low <= 1 <= high
    assert pooled < 100 < 0.93 * 200 <= clustered


def test_estimates():
    found = estimate([[0.1, 0.1, 0.9], [0.3], []])
    assert found.log_ratio == pytest.approx(0.2) and (found.pairs, found.rounds) == (2, 4)
    assert found.ratio == pytest.approx(math.exp(0.2))
    alone = estimate([[0.5, 0.5]])
    assert alone.interval() == (0.0, math.inf) and alone.tail(0.0) == 1.0
    assert alone.as_dict() == {"ratio": math.exp(0.5), "interval": [None, None], "pairs": 1, "rounds": 2}
    wide = estimate([[0.1], [0.2], [0.3]])
    assert wide.interval(0.99)[0] < wide.interval(0.9)[0] < wide.ratio < wide.interval(0.9)[1] < wide.interval(0.99)[1]
    with pytest.raises(ValueError, match="no rounds"):
        estimate([[], []])
    # pairs that agree by chance do not know more than their rounds do
    assert estimate([[-0.1, 0.0, 0.1]] * 6).spread > 0.01


# --- verdicts ----------------------------------------------------------------------------------------------------------


def test_holm():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005]), 0.05).tolist() == [True, False, False, True]  # Holm's own steps
    assert holm(np.array([0.01, 0.02, 0.03]), 0.06).all() and not holm(np.array([0.03, 0.03]), 0.05).any()


def test_looks_together_use_up_the_error():
    assert sum(allowance(look) for look in range(1, 10_000)) == pytest.approx(ALPHA, rel=1e-3)
    assert [pairs_at(look) for look in range(1, 6)] == [6, 9, 14, 21, 32]


def test_the_limit_decides():
    def verdict(ratio, spread, limit=1.05):
        judge = Judge(limit)
        judge.look({"case": Estimate(math.log(ratio), spread, 10, 50)})
        return judge.verdicts["case"]

    assert verdict(1.2, 0.01) == SLOWER and verdict(1 / 1.2, 0.01) == FASTER
    assert verdict(1.01, 0.005) == verdict(1 / 1.01, 0.005) == SAME
    assert verdict(1.05, 0.005) == verdict(1.01, 0.05) == verdict(1.2, 0.1) == UNCERTAIN
    assert verdict(1.0, 1e-6, limit=1.0) == UNCERTAIN and verdict(1.01, 1e-4, limit=1.0) == SLOWER


def test_what_is_decided_stays_so():
    judge = Judge(1.05)
    clear, open_case = Estimate(0.2, 0.01, 6, 30), Estimate(0.2, 0.2, 6, 30)
    assert judge.look({"a": clear, "b": open_case}) == ["b"]
    assert judge.look({"a": Estimate(0.0, 0.001, 9, 45), "b": clear}) == []
    assert judge.verdicts == {"a": SLOWER, "b": SLOWER}


@few_or_many("runs", 40, 200)
def test_false_alarms_are_rare(runs):
    """Comparisons of ten cases of the same code, three looks each, at the limit where each alarm would be false."""
    for limit, noise in ((1.0, {}), (1.0, {"disturbed": 0.2}), (1.0, {"processes": 0.0})):
        machine = Machine(11, **noise)
        alarms = sum(
            set(machine.compare(same_code(10), limit=limit, looks=3).values()) != {UNCERTAIN} for _ in range(runs)
        )
        assert alarms <= ALPHA * runs, (noise, alarms)


@few_or_many("runs", 40, 200)
def test_false_all_clears_are_rare(runs):
    """Ten cases exactly as much slower as the limit allows: "same" would be wrong."""
    machine = Machine(13, processes=0.01, rounds=0.01)
    wrong = 0
    for _ in range(runs):
        verdicts = machine.compare(dict.fromkeys(same_code(10), 1.05), limit=1.05, looks=3).values()
        wrong += SAME in verdicts
    assert wrong <= ALPHA * runs


def test_a_quiet_machine_gives_the_all_clear():
    machine = Machine(17, processes=0.004, rounds=0.004)
    verdicts = [machine.compare(same_code(10), limit=1.05, looks=4) for _ in range(20)]
    assert sum(set(found.values()) == {SAME} for found in verdicts) >= 19


@pytest.mark.parametrize("processes", [0.005, 0.01, 0.015])
def test_what_is_detectable_is_found(processes):
    """A slowdown of 1.1 is found in at least 90 % of the runs whose A/A run says that it can be."""
    machine, claimed, found, looks = Machine(19, processes=processes, rounds=0.01), 0, 0, 3
    for _ in range(150):
        noise = estimate([machine.pair() for _ in range(6)])
        if detectable([noise], limit=1.02, cases=5, pairs=pairs_at(looks), look=looks) > 1.1:
            continue
        claimed += 1
        verdicts = machine.compare({**same_code(5), "slow": 1.1}, limit=1.02, looks=looks)
        found += verdicts["slow"] == SLOWER
    assert claimed >= 30 and found >= 0.9 * claimed


def test_what_can_be_detected_depends_on_noise_pairs_and_cases():
    noise = estimate([Machine(23).pair() for _ in range(6)])

    def smallest(**changed):
        return detectable([noise], **{"limit": 1.05, "cases": 10, "pairs": 14, "look": 3, **changed})

    assert 1.05 < smallest(pairs=48) < smallest() < smallest(pairs=6)
    assert smallest(cases=1) < smallest() < smallest(limit=1.2)
    twice = detectable([noise, noise], limit=1.05, cases=10, pairs=14, look=3)
    assert 1.05 < twice < smallest()  # the same scatter, better known
    assert detectable([estimate([[0.0]])], limit=1.05, cases=1, pairs=9) == math.inf


def test_alarms_under_exchange_of_the_sides():
    machine = Machine(29)
    rounds = {name: [machine.pair() for _ in range(8)] for name in same_code(10)}
    assert false_alarm_rate(rounds, limit=1.0) <= ALPHA
    # An error that both sides of each pair share is none: no exchange of them hides a difference that all pairs agree on.
    biased = {name: [machine.pair(3.0) for _ in range(5)] for name in same_code(10)}
    assert 0.02 < false_alarm_rate(biased, limit=1.0) < 0.15  # all signs alike, in 2 of 32 exchanges
