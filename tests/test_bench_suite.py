"""The benchmark suite: its table of cases, contenders that agree, timing, figures, table, JSON and plot."""

import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastloss
from fastloss.bench import cases, contenders, measure, report, roof, session
from fastloss.bench.cases import CASES
from fastloss.cli import main

ROOT = Path(__file__).parents[1]
TINY = {name: case.scaled(2e-5 if case.n_elements > 1e6 else 0.05) for name, case in CASES.items()}


def needs(case):
    if reason := case.missing():
        pytest.skip(reason)


# --- the table of cases -------------------------------------------------------------------------------------------------


def test_table_holds_what_is_measured():
    def has(loss, shape, dtype="float32", op="value", axis=-1):
        return any((c.loss, c.shape, c.dtype, c.op, c.axis) == (loss, shape, dtype, op, axis) for c in CASES.values())

    vocabularies = [(2048, 32000), (512, 128256), (432, 151936), (256, 262144)]
    small = [(1_000_000, n) for n in (2, 10, 64)]
    for shape in [(1, 10), (64, 1000), (65536, 1000), (1797, 10), *vocabularies, *small]:
        assert has("cross_entropy", shape), shape
    assert has("cross_entropy", (8, 21, 512, 512), axis=1)
    for dtype in ("float16", "bfloat16"):
        assert has("cross_entropy", (65536, 1000), dtype) and has("cross_entropy", (2048, 32000), dtype)
    for loss in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        assert has(loss, (32_000_000,)) and has(loss, (100_000,))
    for loss in ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"):
        assert has(loss, (32_000_000,)) and has(loss, (100_000,)) and has(loss, (10,))
    for loss, shape in (("cross_entropy", (65536, 1000)), ("mse_loss", (32_000_000,))):
        assert has(loss, shape, op="grad")
    assert has("binary_cross_entropy_with_logits", (32_000_000,), op="grad")


def test_table_is_consistent():
    assert all(name == case.name and case.bound in cases.BOUNDS for name, case in CASES.items())
    assert len({case.seed for case in CASES.values()}) == len(CASES)
    assert {case.bound for case in CASES.values() if case.headline} >= {"launch", "memory"}
    assert all(hasattr(fastloss, case.loss) for case in CASES.values())
    for case in CASES.values():
        # a case is what its name says: dtype, op and bound
        assert {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[re.search("b?f[13][26]", case.name)[0]] == case.dtype
        assert case.name.startswith("grad_") == (case.op == "grad")
        assert (case.bound == "launch") == (case.input_bytes < 1000)
        assert (case.bound == "memory") == (case.input_bytes > 40e6)


@pytest.mark.parametrize("name", CASES)
def test_inputs(name):
    case = TINY[name]
    needs(case)
    (x, y), (x2, y2) = case.inputs(), case.inputs()
    assert x.tobytes() == x2.tobytes() and y.tobytes() == y2.tobytes()
    assert x.flags.c_contiguous and x.shape == case.shape and x.dtype.name == case.dtype
    assert y.shape == case.target_shape and x.nbytes + y.nbytes == case.input_bytes
    if case.target == "indices":
        assert y.dtype == np.int64 and y.min() >= 0 and y.max() < case.shape[case.axis]
    if case.loss == "binary_cross_entropy":
        assert 0 < x.min() and x.max() < 1
    value, gradient = fastloss.value_and_grad(getattr(fastloss, case.loss))(
        x, y, **({"axis": case.axis} if case.target == "indices" else {})
    )
    assert math.isfinite(value)
    assert case.output_bytes == (gradient.nbytes if case.op == "grad" else 0)


def test_scaled_and_plain_data():
    case = CASES["ce_f32_axis1_8x21x512x512"]
    small = case.scaled(1e-3)
    assert small.shape[1] == 21 and small.n_elements < 0.01 * case.n_elements and small.name != case.name
    assert CASES["ce_f32_1x10"].scaled(1e-3).shape == (1, 10)
    for case in CASES.values():
        again = cases.from_dict(json.loads(json.dumps(case.as_dict())))
        assert again.as_dict() == case.as_dict() and again.seed == case.seed
    with pytest.raises(ValueError):
        cases.from_dict({**case.as_dict(), "loss": "eval"})


def test_selection():
    assert [case.name for case in cases.select(["mse_f32_10"])] == ["mse_f32_10"]  # not huber, not 1e5
    assert [case.name for case in cases.select(["1e6x2", "bf16*"[:4]])][:1] == ["ce_f32_1e6x2"]
    assert cases.select(["all"]) == list(CASES.values()) and cases.select(["*"]) == list(CASES.values())
    assert cases.select(None) == [case for case in CASES.values() if case.headline]
    assert {case.op for case in cases.select(["grad_*"])} == {"grad"}
    with pytest.raises(LookupError, match="'nonesuch' matches no case"):
        cases.select(["ce_f32_1x10", "nonesuch"])


# --- contenders -----------------------------------------------------------------------------------------------------------


def test_contenders():
    everyone = contenders.contenders()
    backends = [f"fastloss-{name}" for name, status in fastloss.backends().items() if status == "available"]
    assert [name for name, contender in everyone.items() if contender.is_fastloss] == backends
    assert list(everyone)[len(backends) :] == ["numpy", "scipy", "scikit-learn", "torch", "torch.compile", "jax"]
    assert [contender.name for contender in contenders.select(["fastloss", "numpy"])] == [*backends, "numpy"]
    assert "torch.compile" not in [contender.name for contender in contenders.select(None)]
    with pytest.raises(LookupError, match="not one of"):
        contenders.select(["tensorflow"])


def test_absent_packages_are_named(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "optax" else find_spec(name))
    assert contenders.contenders()["jax"].missing() == "not installed: optax"
    assert "jax" not in [contender.name for contender in contenders.select(None)]
    with pytest.raises(LookupError, match="jax is not installed: optax"):
        contenders.select(["jax"])


def compared(name, contender):
    """A contender's result and fastloss's, for a tiny case; skips what the contender does not do."""
    case = TINY[name]
    needs(case)
    x, y = case.inputs()
    try:
        call = contender.prepare(case, x, y, 1)
    except contenders.Unsupported as reason:
        pytest.skip(str(reason))
    ours = next(who for who in contenders.contenders().values() if who.is_fastloss)
    return case, call(), ours.prepare(case, x, y, 1)()


FAST_PEERS = ("numpy", "scipy", "scikit-learn", "torch", "jax")


@pytest.mark.parametrize("peer", FAST_PEERS)
@pytest.mark.parametrize("name", CASES)
def test_contenders_agree(name, peer):
    contender = contenders.contenders()[peer]
    if reason := contender.missing():
        pytest.skip(reason)
    case, theirs, ours = compared(name, contender)
    assert contenders.value_of(theirs) == pytest.approx(contenders.value_of(ours), rel=contenders.tolerance(case))
    if case.op == "grad":
        a, b = contenders.gradient_of(theirs), contenders.gradient_of(ours)
        assert a.shape == b.shape == case.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * abs(b).max())


def test_every_case_has_peers():
    """What they refuse is little, and each refusal has a reason."""
    everyone = [who for who in contenders.contenders().values() if who.name in FAST_PEERS and not who.missing()]
    for case in TINY.values():
        if case.missing():
            continue
        x, y = case.inputs()
        for contender in everyone:
            try:
                assert callable(contender.prepare(case, x, y, 1))
            except contenders.Unsupported as reason:
                assert contender.name in ("scipy", "scikit-learn") and str(reason)


@pytest.mark.parametrize("name", ["ce_f16_65536x1000", "grad_mse_f32_3.2e7"])
def test_torch_compile_agrees(name):
    pytest.importorskip("torch")
    contender = contenders.contenders()["torch.compile"]
    try:
        case, theirs, ours = compared(name, contender)
    except Exception as error:  # it needs a C++ compiler
        pytest.skip(f"torch.compile does not work here: {type(error).__name__}")
    assert contenders.value_of(theirs) == pytest.approx(contenders.value_of(ours), rel=contenders.tolerance(case))


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
    rounds = measure.interleave({name: clock.call(name, 0.1) for name in "abc"}, 3.0)
    assert {name: len(series) for name, series in rounds.items()} == dict.fromkeys("abc", 10)
    assert "".join(clock.order) == "abc" * 11  # once to find out how long it takes
    np.testing.assert_allclose(rounds["b"], 0.1)


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
    assert wider.low <= paired.low and wider.high >= paired.high and wider == measure.paired_ratio(
        above, below, confidence=0.99
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
@pytest.mark.parametrize("name", ["ce_f32_64x1000", "mse_f32_1e5", "grad_mse_f32_3.2e7", "mse_f32_10"])
def test_roof_moves_the_bytes(name, threads):
    case = CASES[name].scaled(0.01) if CASES[name].bound == "memory" else CASES[name]
    x, y = case.inputs()
    with roof.Roof(case, x, y, threads) as top:
        assert (top.kind, top.n_bytes) == ("copy" if case.op == "grad" else "read", case.moved_bytes)
        assert 1 <= top.threads <= threads
        moved = sum(array.nbytes for _, arrays in top._pieces for array in arrays)
        assert moved == case.moved_bytes
        for _, arrays in top._pieces:
            if len(arrays) == 2:
                arrays[1][:] = 0
        top()
        assert all((arrays[0] == arrays[1]).all() for _, arrays in top._pieces if len(arrays) == 2)


# --- one sitting ------------------------------------------------------------------------------------------------------------


def test_sitting():
    case = CASES["mse_f32_1e5"]

    def broken(*_):
        raise OSError("out of\norder")

    def wrong(case, x, y, threads):
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


# --- the command --------------------------------------------------------------------------------------------------------------

QUICK = ["--cases", "mse_f32_1e5", "ce_f32_1x10", "--contenders", "fastloss", "numpy", "--seconds", "0.5"]


def test_json(capsys, tmp_path):
    output = tmp_path / "figures.json"
    assert main(["bench", *QUICK, "--threads", "1", "--json", "--output", str(output)]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out.count("\n") == 1 and output.read_text() == captured.out
    document = json.loads(captured.out, parse_constant=lambda constant: pytest.fail(constant))
    assert document["format"] == report.FORMAT and document["threads"] == 1
    assert set(document["build"]) == {"version", "path", "digest"} and document["build"]["path"]
    assert {"fastloss", "numpy"} <= set(document["versions"]) and document["cpu"]
    assert [case["name"] for case in document["cases"]] == ["ce_f32_1x10", "mse_f32_1e5"]  # the table's order
    for case in document["cases"]:
        assert cases.from_dict(case) and case["roof"]["kind"] == "read" and case["roof"]["rounds"]
        for entry in case["contenders"]:
            assert entry["agrees"] and entry["seconds"] > 0 and entry["rounds"]
            assert (entry["of_roof"] is None) == (case["bound"] == "launch")
            assert (entry["times_reference"] is None) == (entry["name"] == entry["reference"])
            assert entry["peak_bytes"] >= 0


def test_text(capsys):
    assert main(["bench", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "mse_f32_1e5: mse_loss, float32 100000 (cache-bound)" in out
    assert re.search(r"^  numpy +[\d.]+ us +[\d.]+ +[\d.]+ +[\d.]+ \[", out, re.MULTILINE)
    assert max(map(len, out.splitlines()[2:])) < 120


def test_list(capsys):
    assert main(["bench", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in (*CASES, *contenders.contenders()))
    assert main(["bench", "--list", "--json", "--cases", "1e5"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [case["name"] for case in listed["cases"]] == [name for name in CASES if "1e5" in name]


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["--cases", "nonesuch"], "--cases: 'nonesuch' matches no case"),
        (["--contenders", "abacus"], "--contenders: 'abacus' is not one of fastloss-"),
        (["--seconds", "0"], "must be above 0"),
        (["--threads", "0"], "must be at least 1"),
        (["--plot", "figure.xyz"], "figure.xyz: expected a name that ends in"),
        (["--plot", "/nowhere/figure.png"], "cannot be written"),
        (["--output", "/nowhere/figures.json"], "cannot be written"),
        (["--baseline-path", "."], "goes with --compare"),
    ],
)
def test_bad_arguments(capsys, arguments, problem):
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    assert main(["bench", *arguments]) == 2
    captured = capsys.readouterr()
    assert problem in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    png, svg = tmp_path / "figure.png", tmp_path / "figure.svg"
    assert main(["bench", *QUICK, "--plot", str(png)]) == 0
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and png.stat().st_size > 10_000
    assert main(["bench", *QUICK[:1], "mse_f32_1e5", *QUICK[3:], "--plot", str(svg)]) == 0
    drawn = svg.read_text()
    for text in ("memory roof", "fastloss-numba", "numpy", "share of the roof", "MSE", "float32"):
        assert text in drawn, text
    assert "matplotlib.pyplot" not in sys.modules or "pyplot" not in str(main)  # nothing global is touched


def test_plot_without_matplotlib_names_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", *QUICK, "--plot", "figure.png"]) == 2
    assert "pip install 'fastloss[plot]'" in capsys.readouterr().err


def test_import_stays_light():
    code = "import sys, fastloss.cli.bench; print([m for m in ('numba', 'matplotlib', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# --- pytest bench ---------------------------------------------------------------------------------------------------------------


def test_pytest_bench(tmp_path):
    pytest.importorskip("pytest_benchmark")
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "pytest", "bench", "-q", "-p", "no:cacheprovider", "--case-seconds", "0.2"]
    command += ["--cases", "mse_f32_1e5,ce_f32_64x1000", "--contenders", "fastloss,numpy", f"--benchmark-json={figures}"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "roof: " in process.stdout
    found = {entry["name"]: entry for entry in json.loads(figures.read_text())["benchmarks"]}
    n_backends = len(contenders.select(["fastloss"]))
    assert len(found) == 2 * (n_backends + 1)
    entry = found["test_case[mse_f32_1e5-numpy]"]
    info = entry["extra_info"]
    assert entry["stats"]["median"] == pytest.approx(info["seconds"])  # the interleaved rounds, handed over
    assert entry["group"].startswith("mse_f32_1e5") and info["case"] == "mse_f32_1e5"
    assert info["gigabytes_per_second"] == pytest.approx(800_000 / info["seconds"] / 1e9)
    assert info["of_roof"][0] > 0 and info["times_reference"][0] > 0 and info["peak_bytes"] > 0


def test_benchmarks_are_not_collected_with_the_tests():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "--co"]
    config = (ROOT / "pyproject.toml").read_text()
    assert 'testpaths = ["tests"]' in config and command
