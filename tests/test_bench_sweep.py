"""The sweep of the benchmark suite: its cells, that peers compute the same, its limits, and what `fastloss bench --sweep` prints and draws."""

import json
import math
import time
import warnings

import numpy as np
import pytest
from cases import POINT_CASES

from fastloss import losses
from fastloss.bench import case as described
from fastloss.bench import contenders, expressions, grid, limit, subject, sweep, sweep_plot, sweep_report
from fastloss.cli import main

PLENTY = 3000  # elements that every number of classes but the largest has rows of


def outcome(cell, ours, peers, arithmetic=0.0, moving=0.0):
    n = len(ours)
    return sweep.Outcome(cell, {"fastloss-x": ours, **peers}, [arithmetic] * n, [moving] * n)


@pytest.fixture(scope="module")
def cells():
    return grid.cells()


# --- the grid ---------------------------------------------------------------------------------------------------------


def test_every_function_size_and_way(cells):
    assert len({cell.name for cell in cells}) == len(cells)
    by_function = {}
    for cell in cells:
        by_function.setdefault(cell.function, set()).add((cell.way, cell.size))
    assert set(by_function) == {function.name for function in losses.FUNCTIONS}
    assert grid.SIZES == (
        1,
        3,
        10,
        30,
        100,
        300,
        1000,
        3000,
        10**4,
        3 * 10**4,
        10**5,
        3 * 10**5,
        10**6,
        3 * 10**6,
        10**7,
        3 * 10**7,
    )
    ways = {name: {way for way, _ in found} for name, found in by_function.items()}
    elements = {
        "1-D",
        "2-D",
        "sum",
        "none",
        "axis=0",
        "axis=1",
        "weight",
        "float16",
        "bfloat16",
        "gradient",
        "gradient, out=",
    }
    assert ways["mse_loss"] == elements and ways["rmse_loss"] == elements - {"none"}
    assert all(("1-D", size) in by_function["mse_loss"] for size in grid.SIZES)
    for way in (
        "",
        "none",
        "sum",
        "weight",
        "smoothing",
        "soft targets",
        "int32 labels",
        "axis=1",
        "float16",
        "bfloat16",
        "gradient",
    ):
        for n_classes in grid.CLASSES:
            name = f"C={n_classes} {way}".strip()
            assert (name in ways["cross_entropy"]) == (way != "axis=1" or n_classes <= 1000), name


def test_cells_are_what_they_say(cells):
    for cell in cells:
        case = cell.case
        assert case.loss == cell.function and case.name == f"{cell.function}/{cell.way}/{cell.size:g}"
        assert 0 < case.n_elements <= cell.size * (64 if case.loss == "linear_cross_entropy" else 1)
        assert described.from_dict(json.loads(json.dumps(case.as_dict()))).as_dict() == case.as_dict()
        if cell.classes and case.loss != "linear_cross_entropy":
            assert case.shape[case.axis] == cell.classes


def test_selection(cells):
    assert {cell.function for cell in grid.cells(["mse_loss"])} == {"mse_loss"}  # not rmse_loss, too
    assert {cell.way for cell in grid.cells(["cross_entropy/C=10 f*", "l1_loss/sum"])} == {"C=10 float16", "sum"}
    assert {cell.size for cell in grid.cells(None, [7])} == {7}
    with pytest.raises(LookupError, match="'abacus' matches no function"):
        grid.cells(["mse_loss", "abacus"])


def test_data(cells):
    data = grid.Data()
    cell = next(cell for cell in cells if cell.name == "cross_entropy/C=10 soft targets/1000")
    x, y = data.inputs(cell.case)
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-5)
    again, _ = grid.Data().inputs(cell.case)
    assert x.tobytes() == again.tobytes() and x.shape == (100, 10)
    cell = next(cell for cell in cells if cell.name == "margin_ranking_loss/1-D/1000")
    a, b, _ = data.inputs(cell.case)
    assert not np.array_equal(a, b)


def test_bytes_of_gathers(cells):
    found = {cell.name: cell.case for cell in cells}
    many, few = found["nll_loss/C=100/1000"], found["nll_loss/C=2/1000"]
    assert grid.bytes_read(many) == 10 * 64 + 10 * 8 and grid.bytes_read(few) == few.input_bytes
    assert grid.bytes_read(found["cross_entropy/C=100/1000"]) == found["cross_entropy/C=100/1000"].input_bytes


# --- contenders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [function.name for function in losses.FUNCTIONS])
def test_peers_compute_the_same(function):
    data, compared = grid.Data(), 0
    for cell in (
        grid.cells([function], [PLENTY]) if function != "linear_cross_entropy" else grid.cells([function], [32_000])
    ):
        if cell.case.missing() or cell.classes > 100 and function != "linear_cross_entropy":
            continue
        arrays = data.inputs(cell.case)
        mine = subject.value_of(subject.fastloss_call(cell.case, arrays, None)())
        assert math.isfinite(mine)
        for runner in sweep.select(None, 1):
            if runner.contender.is_fastloss or runner.name == "jax":
                continue
            try:
                call = runner.contender.prepare(cell.case, arrays, 1)
            except subject.Unsupported:
                continue
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = subject.value_of(sweep._on_host(call()))
            # halves are not always to be had: the complement of a probability that rounds to 1, means in bfloat16
            if cell.case.dtype == "float32":
                assert sweep._agrees(cell.case, mine, theirs), f"{cell.name}: {runner.name} {theirs}, not {mine}"
            compared += 1
    assert compared or function not in expressions.ELEMENTS


def test_every_pointwise_loss_has_numpy_for_a_peer():
    assert {case.loss for case in POINT_CASES} <= set(expressions.ELEMENTS)


def test_gradients_of_peers(cells):
    data = grid.Data()
    for cell in cells:
        if cell.size != 100 or cell.case.op != "fresh" or cell.classes not in (0, 10):
            continue
        arrays = data.inputs(cell.case)
        value, slope = subject.fastloss_call(cell.case, arrays, None)()
        for runner in sweep.select(None, 1):
            if runner.contender.is_fastloss or runner.name == "jax":
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    theirs = runner.contender.prepare(cell.case, arrays, 1)()
            except subject.Unsupported:
                continue
            np.testing.assert_allclose(
                np.asarray(theirs[1]), slope, rtol=2e-3, atol=1e-5, err_msg=f"{cell.name}: {runner.name}"
            )


def test_contenders_are_chosen():
    names = [runner.name for runner in sweep.select(None, 2)]
    assert names[0].startswith("fastloss-") and "numpy" in names
    assert sum(name.startswith("fastloss-") for name in names) == 1 and "torch.compile" not in names
    with pytest.raises(LookupError, match="a backend of fastloss has to be among them"):
        sweep.select(["numpy"], 2)
    with pytest.raises(LookupError, match="'abacus' is not one of"):
        sweep.select(["abacus"], 2)


def test_threads_of_torch():
    torch = pytest.importorskip("torch")
    runners = {runner.name: runner for runner in sweep.select(None, 2)}
    before = torch.get_num_threads()
    with runners["torch-1"].in_force():
        assert torch.get_num_threads() == 1
    with runners["torch"].in_force():
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
    assert "torch-1" not in [runner.name for runner in sweep.select(None, 1)]


# --- measuring --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1000, 9815])
def test_spread(n):
    places = sweep.spread(n)
    assert sorted(places) == list(range(n))
    if n >= 1000:
        first = np.sort(places[: n // 10])
        assert np.diff(first).max() <= 30  # no part is left out


def test_ratios_and_what_counts_as_equal(cells):
    cell = cells[0]
    slow = outcome(cell, [3e-5] * 3, {"numpy": [2e-5] * 3, "torch": [1e-5]})
    assert slow.best == "torch" and slow.against_best == pytest.approx(3) and slow.loses
    slow.differing["torch"] = 1.0
    assert slow.best == "numpy" and slow.against_best == pytest.approx(1.5)
    brief = outcome(cell, [4.9e-6] * 3, {"numpy": [1e-6] * 3})
    assert brief.against_best == 1 and not brief.loses
    near = outcome(cell, [1.09e-5] * 3, {"numpy": [1e-5] * 3})
    assert near.against_best == pytest.approx(1.09) and not near.loses
    alone = outcome(cell, [1e-5] * 3, {})
    assert alone.best is None and alone.against_best is None and not alone.loses and alone.share is None


def test_share_is_of_the_slower_part(cells):
    one = outcome(cells[0], [1e-4] * 3, {}, arithmetic=2e-5, moving=5e-5)
    assert one.share.median == pytest.approx(0.5) and one.bound == "memory"
    assert outcome(cells[0], [1e-4] * 3, {}, arithmetic=6e-5, moving=5e-5).bound == "arithmetic"


def test_within_its_time():
    chosen = grid.cells(["mse_loss"], [10, 100])
    outcomes = sweep.run(chosen, sweep.select(["fastloss", "numpy"], 1), seconds=1e-9, threads=1)
    assert len(outcomes) == 1  # never none


def test_peers_far_behind_drop_out():
    cell = grid.cells(["mse_loss/1-D"], [100])[0]
    value = subject.value_of(subject.fastloss_call(cell.case, grid.Data().inputs(cell.case), None)())

    def peer(name, seconds):
        def call():
            time.sleep(seconds)
            return value

        return sweep.Runner(contenders.Contender(name, ("numpy",), ("numpy",), lambda *_: call, compiles=False), 1)

    runners = [*sweep.select(["fastloss"], 1)[:1], peer("quick", 0), peer("slower", 0.01), peer("slowest", 0.15)]
    found = sweep.measure(cell, grid.Data(), runners, seconds=0.2, threads=1)
    assert found.skipped.keys() == {"slowest"} and "left out: a call took 0.15" in found.skipped["slowest"]
    assert found.best == "quick" and len(found.seconds["slower"]) == 1 < len(found.seconds["quick"])


# --- the limit --------------------------------------------------------------------------------------------------------


@pytest.fixture
def loops():
    if limit.yardsticks() is None:
        pytest.skip("not compiled here")
    return limit.yardsticks()


def test_every_cell_has_a_pace(cells, loops):
    for cell in cells:
        if (pace := limit.pace(cell.case)) is not None:
            assert pace[0] in loops.PACES and pace[1] in loops.WRITTEN
        else:
            assert cell.function in ("nll_loss", "categorical_cross_entropy", "linear_cross_entropy")


def test_passes_take_longer_the_more_they_compute(loops):
    def seconds(kind):
        least = math.inf
        for _ in range(50):
            start = time.thread_time()
            loops.run(kind, "nothing", 0, 50)
            least = min(least, time.thread_time() - start)
        return least

    plain, exp, softplus = map(seconds, ("plain", "exp", "softplus"))
    assert plain < exp < softplus


def test_moves_bytes(loops):
    source = np.random.default_rng(0).integers(0, 255, 10_240, dtype=np.uint8)
    source.flags.writeable = False
    out = np.full(4096, 7, np.uint8)
    loops.move(source, out, 2)
    assert np.array_equal(out, source[:4096])
    loops.move(source[:0], out, 1)
    assert not out.any()
    loops.move(source, out[:0], 1)


def test_elements_of_a_pass(loops):
    assert loops.run("planes", "nothing", 10, 1) % 10 == 0 and loops.run("row", "nothing", 0, 1) == 4096
    assert loops.run("planes", "nothing", 10_000, 1) == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_limit_of_a_case(threads, loops):
    cell = grid.cells(["mse_loss/1-D"], [100_000])[0]
    with limit.Limit(cell.case, grid.Data().inputs(cell.case), threads) as one:
        assert one.known
        arithmetic, moving = one.seconds()
    assert 0 < arithmetic < 1e-2 and 0 < moving < 1e-2
    layer = grid.cells(["linear_cross_entropy"], [1000])[0]
    with limit.Limit(layer.case, grid.Data().inputs(layer.case), threads) as none:
        assert not none.known and none.seconds() == (0.0, 0.0)


# --- the command line -------------------------------------------------------------------------------------------------

QUICK = [
    "bench",
    "--sweep",
    "--functions",
    "mse_loss",
    "cross_entropy/C=10*",
    "--sizes",
    "30",
    "1e3",
    "--seconds",
    "0.5",
]
WHO = ["--contenders", "fastloss", "numpy", "--threads", "1"]


def test_json(capsys, tmp_path):
    output = tmp_path / "sweep.json"
    assert main([*QUICK, *WHO, "--json", "--output", str(output)]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1 and output.read_text() == captured.out
    document = json.loads(captured.out, parse_constant=lambda constant: pytest.fail(constant))
    assert document["schema"] == sweep_report.SCHEMA and document["version"] == sweep_report.VERSION
    assert document["cpu"] and document["threads"] == 1 and {"fastloss", "numpy"} <= set(document["versions"])
    assert "instruction_set" in document
    counts = document["summary"]
    assert counts["measured"] == len(document["cells"]) <= counts["cells"] == len(grid.cells(QUICK[3:5], [30, 1000]))
    for cell in document["cells"]:
        mine, *others = cell["contenders"].values()
        assert mine["seconds"] > 0 and mine["fastloss_by_it"] is None
        assert all(other["agrees"] and other["fastloss_by_it"][0] > 0 for other in others if other["fastloss_by_it"])
        assert cell["slower"] == (
            cell["by_best_peer"] is not None and cell["by_best_peer"] > document["equal"]["factor"]
        )


def test_text(capsys):
    assert main([*QUICK, *WHO]) == 0
    out = capsys.readouterr().out
    assert "slower than the best of the others: " in out and "limit" in out
    assert max(map(len, out.splitlines()[2:])) <= 120


def test_tables_of_the_worst(cells):
    chosen = cells[:40]
    outcomes = [
        outcome(cell, [k * 1e-4] * 3, {"numpy": [1e-4] * 3}, moving=1e-5) for k, cell in enumerate(chosen, start=1)
    ]
    told = sweep_report.text(outcomes, 50).splitlines()
    assert told[0].startswith("40 of 50 cells")
    assert "39 of 40" in told[1]
    assert chosen[-1].name in told[3] and "40.00" in told[3]  # the worst first
    assert any("and 14 more" in line for line in told)
    assert sweep_report.summary(outcomes, 50) == {
        "cells": 50, "measured": 40, "compared": 40, "slower": 39, "limited": 40, "below_target": 40,
    }  # fmt: skip


def test_list(capsys):
    assert main([*QUICK[:5], "--list"]) == 0
    out = capsys.readouterr().out
    assert "mse_loss/axis=1" in out and "cross_entropy/C=10 smoothing" in out and "huber" not in out
    assert main([*QUICK[:5], "--sizes", "30", "--list", "--json"]) == 0
    assert "mse_loss/axis=1/30" in json.loads(capsys.readouterr().out)["cells"]


def test_plot(tmp_path, cells):
    pytest.importorskip("matplotlib")
    path = tmp_path / "heat.svg"
    assert main([*QUICK, *WHO, "--plot", str(path)]) == 0
    assert "share of this CPU" in path.read_text()
    chosen = [cell for cell in cells if cell.function in ("mse_loss", "cross_entropy") and cell.size in (30, 1000)]
    outcomes = [outcome(cell, [1e-4] * 3, {"numpy": [2e-4] * 3}, moving=1e-5) for cell in chosen]
    conditions = {"cpu": "a CPU", "instruction_set": "avx2", "threads": 2, "versions": {"numpy": "2"}}
    sweep_plot.save(outcomes, conditions, str(path))
    drawn = path.read_text()
    assert "mse_loss 1-D" in drawn and "cross_entropy, C ≤ 32 smoothing" in drawn and "a CPU (avx2), 2 threads" in drawn
    with pytest.raises(ValueError, match="nothing was measured"):
        sweep_plot.save([], conditions, str(path))


def test_map_shows_the_worst(cells):
    of = {cell.name: cell for cell in cells}
    few, more = of["cross_entropy/C=2/1000"], of["cross_entropy/C=10/1000"]
    lost = outcome(more, [1e-3] * 3, {"numpy": [5e-4] * 3}, moving=2e-4)
    won = outcome(few, [1e-3] * 3, {"numpy": [5e-3] * 3}, moving=6e-4)
    labels, sizes, ratios, shares, loses = sweep_plot.grids([won, lost])
    assert labels == ["cross_entropy, C ≤ 32"] and sizes == [1000] and loses.all()
    assert ratios[0, 0] == pytest.approx(2) and shares[0, 0] == pytest.approx(0.2)


def test_map_of_everything_has_a_row_per_function(cells):
    outcomes = [outcome(cell, [1e-3], {"numpy": [1e-3]}) for cell in cells if cell.size in (1000, 10**6)]
    labels, *_ = sweep_plot.grids(outcomes)
    assert len(labels) < 60 and "mse_loss" in labels and "softmax, C > 32" in labels
