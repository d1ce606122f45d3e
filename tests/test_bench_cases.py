"""The benchmark suite's table: its cases, their inputs, and contenders that agree on the values."""

import importlib.util
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from subprocesses import check_python

import fastloss
from fastloss import losses
from fastloss.bench import case as cases
from fastloss.bench import catalogue, contenders, own, subject
from fastloss.bench.cases import CASES, PEERS, select

TINY = {name: case.scaled(2e-5 if case.n_elements > 1e6 else 0.05) for name, case in PEERS.items()}


def needs(case):
    if reason := case.missing():
        pytest.skip(reason)


# --- the table of cases -------------------------------------------------------------------------------------------------


def test_table_holds_what_is_measured():
    def has(loss, shape, dtype="float32", op="value", axis=-1):
        return any((c.loss, c.shape, c.dtype, c.op, c.axis) == (loss, shape, dtype, op, axis) for c in PEERS.values())

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
    for case in PEERS.values():
        # a case is what its name says: dtype, op and bound
        assert {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[
            re.search("b?f[13][26]", case.name)[0]
        ] == case.dtype
        assert case.name.startswith("grad_") == (case.op == "grad")
    for case in CASES.values():
        assert (case.bound == "launch") == (case.input_bytes < 1000)
        assert (case.bound == "memory") == (case.input_bytes > 40e6)


@pytest.mark.parametrize("name", PEERS)
def test_inputs(name):
    case = TINY[name]
    needs(case)
    (x, y), (x2, y2) = case.inputs(), case.inputs()
    assert x.tobytes() == x2.tobytes() and y.tobytes() == y2.tobytes()
    assert x.flags.c_contiguous and x.shape == case.shape and x.dtype.name == case.dtype
    assert y.shape == case.arrays[1].shape and x.nbytes + y.nbytes == case.input_bytes
    if case.target == "indices":
        assert y.dtype == np.int64 and y.min() >= 0 and y.max() < case.shape[case.axis]
    if case.loss == "binary_cross_entropy":
        assert 0 < x.min() and x.max() < 1
    value = getattr(fastloss, case.loss)(x, y, **({"axis": case.axis} if case.target == "indices" else {}))
    assert math.isfinite(value)
    assert (case.output_bytes > 0) == (case.op == "grad")


def test_scaled_and_plain_data():
    case = CASES["ce_f32_axis1_8x21x512x512"]
    small = case.scaled(1e-3)
    assert small.shape[1] == 21 and small.n_elements < 0.01 * case.n_elements and small.name != case.name
    assert CASES["ce_f32_1x10"].scaled(1e-3).shape == (1, 10)
    for case in CASES.values():
        again = cases.from_dict(json.loads(json.dumps(case.as_dict())))
        assert again.as_dict() == case.as_dict() and again.seed == case.seed


def test_selection():
    assert [case.name for case in select(["mse_f32_10"])] == ["mse_f32_10"]  # not huber, not 1e5
    assert [case.name for case in select(["1e6x2", "ce_f32_1x10"])] == ["ce_f32_1x10", "ce_f32_1e6x2"]
    assert select(["all"]) == list(CASES.values()) and select(["*"]) == list(CASES.values())
    assert select(None) == [case for case in CASES.values() if case.headline]
    assert {case.op for case in select(["grad_*", "*/grad/*"])} == {"grad"}
    with pytest.raises(LookupError, match="'nonesuch' matches no case"):
        select(["ce_f32_1x10", "nonesuch"])


# --- cases of every function ----------------------------------------------------------------------------------------------


def test_every_function_is_measured():
    for function in losses.FUNCTIONS:
        names = {name for name in CASES if name.startswith(f"{function.name}/")}
        assert {f"{function.name}/value/{size}" for size in ("small", "middle", "large")} <= names
        assert any("/axis/" in name for name in names) == any(option.name == "axis" for option in function.options)
        if isinstance(function, losses.Loss):
            assert {f"{function.name}/grad/small", f"{function.name}/accumulator/middle"} <= names
            assert f"{function.name}/weight/middle" in names
        for option in function.options:
            if option.kind == "flag":
                assert f"{function.name}/{option.name}/middle" in names
    for what in ("label_smoothing", "top_k", "linear_weight", "linear_bias", "pos_weight", "dask", "eval"):
        assert any(f"/{what}/" in name for name in CASES), what


def test_a_new_loss_comes_along(monkeypatch):
    new = replace(losses.HUBER_LOSS, name="new_loss")
    monkeypatch.setattr(losses, "FUNCTIONS", (*losses.FUNCTIONS, new))
    added = catalogue.catalogue().keys() - CASES.keys()
    assert {"new_loss/value/large", "new_loss/grad/small", "new_loss/delta/middle"} <= added
    assert all(name.startswith("new_loss/") for name in added)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if name not in PEERS and case.bound != "memory"])
def test_cases_of_functions(name):
    case = CASES[name]
    if case.op == "dask":
        pytest.importorskip("dask")
    arrays = case.inputs()
    assert sum(array.nbytes for array in arrays) == case.input_bytes and case.n_elements == arrays[0].size
    backend = "cython" if fastloss.backends()["cython"] == "available" else "numpy"
    result = subject.fastloss_call(case, arrays, backend)()
    assert math.isfinite(subject.value_of(result))
    if case.output_bytes:
        assert case.output_bytes == np.asarray(result[1] if case.op == "grad" else result).nbytes
    with fastloss.use_backend("numpy"):
        assert subject.value_of(result) == pytest.approx(
            subject.value_of(subject.fastloss_call(case, arrays, None)()), rel=1e-5
        )


def test_what_a_version_lacks():
    lacking = replace(CASES["mse_loss/value/small"], loss="no_such_loss")
    with pytest.raises(subject.Unsupported, match="this version has no no_such_loss"):
        subject.fastloss_call(lacking, lacking.inputs(), None)
    with pytest.raises(contenders.Unsupported, match="no counterpart"):
        peer = contenders.contenders()["numpy"]
        peer.prepare(CASES["mse_loss/weight/middle"], CASES["mse_loss/weight/middle"].inputs(), 1)


def test_sets_of_cases():
    suite = {case.name for case in select(["suite"])}
    assert {f.name for f in losses.FUNCTIONS} == {name.split("/")[0] for name in suite}
    assert select(None, default="suite") == select(["suite"]) and not suite & PEERS.keys()
    assert {case.name for case in select(["peers"])} == PEERS.keys()


# --- a user's own ---------------------------------------------------------------------------------------------------------

OWN = """
import numpy as np

def data(n, scale=1.0):
    return np.arange(n) * scale

CASES = {
    "mean": {"setup": data, "call": np.mean, "parameters": {"n": [10, 20], "scale": [2.0]}, "bytes": lambda n, scale: 8 * n,
             "elements": lambda n, scale: n},
    "nothing": {"call": lambda: None},
}
"""


def test_cases_of_ones_own(tmp_path):
    path = tmp_path / "bench_mine.py"
    path.write_text(OWN)
    found = own.cases_from(str(path))
    assert list(found) == ["mean/n=10/scale=2.0", "mean/n=20/scale=2.0", "nothing"]
    case = found["mean/n=20/scale=2.0"]
    assert (case.input_bytes, case.n_elements, case.bound) == (160, 20, "launch")
    again = cases.from_dict(json.loads(json.dumps(case.as_dict())))
    assert again == case and subject.value_of(subject.fastloss_call(again, (), None)()) == 19.0
    assert math.isnan(subject.value_of(subject.fastloss_call(found["nothing"], (), None)()))
    assert select(None, found) == list(found.values()) and select(["nothing"], found) == [found["nothing"]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no CASES"),
        ("1 / 0", "cannot be run: ZeroDivisionError: division by zero"),
        ("CASES = []", "CASES: expected a dictionary of at least one case"),
        ("CASES = {'a': 1}", "CASES['a']: expected a dictionary under a string"),
        ("CASES = {'a': {'call': 3}}", "CASES['a']['call']: expected a function"),
        ("CASES = {'a': {'call': print, 'setup': 3}}", "CASES['a']['setup']: expected a function"),
        ("CASES = {'a': {'call': print, 'size': 3}}", "CASES['a']: 'size' is not one of bytes, call, elements"),
        (
            "CASES = {'a': {'call': print, 'parameters': {'n': 3}}}",
            "CASES['a']['parameters']: expected a dictionary of",
        ),
        ("CASES = {'a': {'call': print, 'parameters': {'n': [print]}}}", "CASES['a']['parameters']: expected numbers"),
    ],
)
def test_files_that_hold_no_cases(tmp_path, text, problem):
    path = tmp_path / "bench_mine.py"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        own.cases_from(str(path))
    assert str(caught.value).startswith(problem)


# --- contenders -----------------------------------------------------------------------------------------------------------


def test_contenders():
    everyone = contenders.contenders()
    backends = [
        f"fastloss-{name}" for name, status in fastloss.backends().items() if status == "available" and name != "numpy"
    ]
    assert [name for name, contender in everyone.items() if contender.is_fastloss] == backends
    assert list(everyone)[len(backends) :] == ["numpy", "scipy", "scikit-learn", "torch", "torch.compile", "jax"]
    assert [contender.name for contender in contenders.select(["fastloss", "numpy"])] == [*backends, "numpy"]
    assert "torch.compile" not in [contender.name for contender in contenders.select(None)]
    with pytest.raises(LookupError, match="not one of"):
        contenders.select(["tensorflow"])


def test_absent_packages_are_named(monkeypatch):
    find_spec = importlib.util.find_spec
    absent = ("jax", "optax")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find_spec(name))
    assert contenders.contenders()["jax"].missing() == "not installed: jax, optax"
    assert "jax" not in [contender.name for contender in contenders.select(None)]
    with pytest.raises(LookupError, match="jax is not installed: jax, optax"):
        contenders.select(["jax"])


def compared(case, contender):
    """A contender's result and fastloss's, or None for what the contender does not do."""
    x, y = case.inputs()
    try:
        call = contender.prepare(case, (x, y), 1)
    except contenders.Unsupported:
        return None
    ours = next(who for who in contenders.contenders().values() if who.is_fastloss)
    return call(), ours.prepare(case, (x, y), 1)()


FAST_PEERS = ("numpy", "scipy", "scikit-learn", "torch", "jax")


@pytest.mark.parametrize("peer", FAST_PEERS)
def test_contenders_agree(peer):
    """On each case that they have: what they refuse is the next test's."""
    if reason := contenders.contenders()[peer].missing():
        pytest.skip(reason)
    apart(agree, peer)


@pytest.mark.parametrize("peer", FAST_PEERS)
def test_contenders_have_every_case(peer):
    """What they refuse is little, and each refusal has a reason."""
    if reason := contenders.contenders()[peer].missing():
        pytest.skip(reason)
    apart(have_every_case, peer)


def apart(check, peer):
    """Run the check of a contender; of JAX, whose number of threads is its first call's, in a process of its own."""
    if peer == "jax":
        code = f"import {__name__} as tests; tests.{check.__name__}({peer!r}); print('fine')"
        check_python(code, PYTHONPATH=str(Path(__file__).parent))
    else:
        check(peer)


def agree(peer):
    contender, n_compared = contenders.contenders()[peer], 0
    for name, case in TINY.items():
        both = None if case.missing() else compared(case, contender)
        if both is None:
            continue
        n_compared += 1
        (theirs, ours), within = both, contenders.tolerance(case)
        assert contenders.value_of(theirs) == pytest.approx(contenders.value_of(ours), rel=within), name
        if case.op == "grad":
            a, b = contenders.gradient_of(theirs), contenders.gradient_of(ours)
            assert a.shape == b.shape == case.shape and b.nbytes == case.output_bytes, name
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * abs(b).max(), err_msg=name)
    assert n_compared


def have_every_case(peer):
    contender = contenders.contenders()[peer]
    for case in TINY.values():
        if case.missing():
            continue
        try:
            assert callable(contender.prepare(case, case.inputs(), 1))
        except contenders.Unsupported as reason:
            assert peer in ("scipy", "scikit-learn") and str(reason)


def test_torch_compile_agrees():
    pytest.importorskip("torch")
    contender, case = contenders.contenders()["torch.compile"], TINY["grad_mse_f32_3.2e7"]
    try:
        theirs, ours = compared(case, contender)
    except Exception as error:  # it needs a C++ compiler
        pytest.skip(f"torch.compile does not work here: {type(error).__name__}")
    assert contenders.value_of(theirs) == pytest.approx(contenders.value_of(ours), rel=contenders.tolerance(case))
