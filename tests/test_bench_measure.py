"""How the benchmark suite times: turns, intervals, memory, the roof, and one sitting of a case."""

import math

import numpy as np
import pytest

from fastloss.bench import contenders, measure, report, roof, session
from fastloss.bench.cases import CASES

# --- measuring ----------------------------------------------------------------------------------------------------------------


class Clockwork:
    """Calls that take as long as they are told on a clock that only they advance."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.order = []
        monkeypatch.setattr(measure.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(measure.Batch.__init__, "__kwdefaults__", {"seconds": 0.0, "clock": lambda: self.now})

    def call(self, name, seconds):
        def run():
            self.order.append(name)
            self.now += seconds

        return run


def test_rounds_are_interleaved(monkeypatch):
    clock = Clockwork(monkeypatch)
    rounds = measure.interleave({name: clock.call(name, 0.125) for name in "abc"}, 3.0)
    assert {name: len(series) for name, series in rounds.items()} == dict.fromkeys("abc", 8)
    assert "".join(clock.order) == "abc" * 9  # once to find out how long it takes
    np.testing.assert_allclose(rounds["b"], 0.125)


def test_short_calls_are_repeated_and_slow_ones_drop_out(monkeypatch):
    clock = Clockwork(monkeypatch)
    calls = {"short": clock.call("short", 1e-5), "slow": clock.call("slow", 0.4), "endless": clock.call("endless", 9.0)}
    rounds = measure.interleave(calls, 3.0, most=50)
    assert {name: len(series) for name, series in rounds.items()} == {"short": 50, "slow": 3, "endless": 1}
    np.testing.assert_allclose(rounds["short"], 1e-5)
    assert clock.order.count("short") > 50 * measure.SHORTEST_BATCH / 1e-5


def test_what_is_known_is_not_measured_again(monkeypatch):
    clock = Clockwork(monkeypatch)
    rounds = measure.interleave({"slow": clock.call("slow", 2.0)}, 1.0, known={"slow": 2.0})
    assert rounds == {"slow": [2.0]} and clock.order == ["slow"]


def test_ratio_intervals():
    rng = np.random.default_rng(5)
    noise = np.exp(rng.normal(0, 0.5, 40))  # what the machine does to both of a round
    below, above = noise * np.exp(rng.normal(0, 0.02, 40)), 1.3 * noise * np.exp(rng.normal(0, 0.02, 40))
    paired = measure.paired_ratio(above, below)
    assert paired.low < 1.3 < paired.high and paired.high - paired.low < 0.05 and paired.rounds == 40
    unpaired = measure.unpaired_ratio(above, rng.permutation(below))
    assert unpaired.low < 1.3 < unpaired.high and unpaired.high - unpaired.low > 0.2
    wider = measure.paired_ratio(above, below, confidence=0.99)
    assert (
        wider.low <= paired.low
        and wider.high >= paired.high
        and wider == measure.paired_ratio(above, below, confidence=0.99)
    )
    # pairs are those of the rounds that both took part in
    assert measure.paired_ratio([2.0, 4.0], [1.0, 2.0, 5.0]).median == 2.0
    one = measure.paired_ratio([3.0], [2.0])
    assert one.median == 1.5 and one.as_list() == [1.5, None, None]


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        ratios = np.exp(rng.standard_t(3, 30) * 0.1)
        found = measure.paired_ratio(ratios, np.ones(30), resamples=400)
        hits += found.low <= 1 <= found.high
    assert 180 <= hits  # 95 % of 200 are 190


def test_peak_memory():
    held = []
    assert measure.peak_bytes(lambda: None) < 1e6
    assert 2e7 <= measure.peak_bytes(lambda: np.ones(20_000_000, np.uint8).sum()) < 2.5e7
    assert 2e7 <= measure.peak_bytes(lambda: held.append(np.ones(20_000_000, np.uint8))) < 2.5e7


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "name", ["ce_f32_64x1000", "mse_f32_1e5", "grad_mse_f32_3.2e7", "mse_f32_10", "gaussian_nll_loss/reduction/middle"]
)
def test_roof_moves_the_bytes(name, threads):
    case = CASES[name].scaled(0.01) if CASES[name].bound == "memory" else CASES[name]
    with roof.Roof(case, case.inputs(), threads) as top:
        assert (top.kind, top.n_bytes) == ("copy" if case.output_bytes else "read", case.moved_bytes)
        assert 1 <= top.threads <= threads
        moved = sum(array.nbytes for _, arrays in top._pieces for array in arrays)
        assert moved == case.moved_bytes
        for _, arrays in top._pieces:
            if len(arrays) == 2:
                arrays[1][:] = 0
        top()
        assert all((arrays[0] == arrays[1]).all() for _, arrays in top._pieces if len(arrays) == 2)


def test_work_is_counted_alike():
    counts = {measure.work(lambda: [len(str(i)) for i in range(100)]) for _ in range(5)}
    assert len(counts) == 1 and 100 <= counts.pop() < 110  # `str` is a class, which is not counted
    assert measure.work(lambda: None) < measure.work(lambda: [abs(i) for i in range(50)])


# --- one sitting ------------------------------------------------------------------------------------------------------------


def test_sitting():
    case = CASES["mse_f32_1e5"]

    def broken(*_):
        raise OSError("out of\norder")

    def wrong(case, arrays, threads):
        return lambda: 42.0

    def unable(*_):
        raise contenders.Unsupported("has no such thing")

    who = contenders.select(["fastloss", "numpy"])
    peers = {"broken": broken, "wrong": wrong, "unable": unable}
    who += [contenders.Contender(name, ("numpy",), ("numpy",), prepare) for name, prepare in peers.items()]
    result = session.run_case(case, who, seconds=0.3, threads=1)
    ours = who[0].name
    assert list(result.entries) == [contender.name for contender in who if contender.name not in ("broken", "unable")]
    assert result.skipped == {"broken": "failed: OSError: out of order", "unable": "has no such thing"}
    assert result.reference == ours and result.slower(ours) is None
    slower = result.slower("numpy")
    assert 0 < slower.low <= slower.median <= slower.high
    assert result.disagrees("wrong") and not result.disagrees("numpy")
    assert result.bandwidth(ours) == pytest.approx(800_000 / result.entries[ours].seconds)
    assert 0 < result.of_roof(ours).median < 10
    text = report.table(result)
    assert "DIFFERENT VALUE" in text and "has no such thing" in text and "roof: " in text


def test_launch_bound_cases_have_no_share():
    result = session.run_case(CASES["mse_f32_10"], contenders.select(["fastloss"]), seconds=0.05, threads=1)
    assert result.of_roof(result.reference) is None
    assert report.contender_data(result, result.reference)["of_roof"] is None
    assert all(math.isfinite(entry.seconds) for entry in result.entries.values())
    report.table(result)


def test_units():
    assert [report.duration(s) for s in (2.5, 0.0123, 4.56e-5, 7e-8)] == ["2.5 s", "12.3 ms", "45.6 us", "70 ns"]
    assert [report.size(n) for n in (3.2e9, 262e6, 80, 1500)] == ["3.2 GB", "262 MB", "80 B", "1.5 kB"]
