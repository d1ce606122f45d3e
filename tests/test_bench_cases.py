"""The benchmark suite's table: its cases, their inputs, and contenders that agree on the values."""

import importlib.util
import json
import math
import re

import numpy as np
import pytest

import fastloss
from fastloss.bench import cases, contenders
from fastloss.bench.cases import CASES

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
        assert {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[
            re.search("b?f[13][26]", case.name)[0]
        ] == case.dtype
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
    with pytest.raises(ValueError):
        cases.from_dict({**case.as_dict(), "loss": "eval"})


def test_selection():
    assert [case.name for case in cases.select(["mse_f32_10"])] == ["mse_f32_10"]  # not huber, not 1e5
    assert [case.name for case in cases.select(["1e6x2", "ce_f32_1x10"])] == ["ce_f32_1x10", "ce_f32_1e6x2"]
    assert cases.select(["all"]) == list(CASES.values()) and cases.select(["*"]) == list(CASES.values())
    assert cases.select(None) == [case for case in CASES.values() if case.headline]
    assert {case.op for case in cases.select(["grad_*"])} == {"grad"}
    with pytest.raises(LookupError, match="'nonesuch' matches no case"):
        cases.select(["ce_f32_1x10", "nonesuch"])


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
        assert a.shape == b.shape == case.shape and b.nbytes == case.output_bytes
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


def test_torch_compile_agrees():
    pytest.importorskip("torch")
    contender = contenders.contenders()["torch.compile"]
    try:
        case, theirs, ours = compared("grad_mse_f32_3.2e7", contender)
    except Exception as error:  # it needs a C++ compiler
        pytest.skip(f"torch.compile does not work here: {type(error).__name__}")
    assert contenders.value_of(theirs) == pytest.approx(contenders.value_of(ours), rel=contenders.tolerance(case))
