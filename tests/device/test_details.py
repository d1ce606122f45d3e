"""score's entropies, most likely classes and log-probabilities on a device, against the oracle."""

import numpy as np
import pytest
import reference
from cases import generator
from compare import assert_ulp, result_dtype
from on_device import LAYOUTS, SIMULATED, fetched, sent

import fastloss

try:
    from ml_dtypes import bfloat16

    HALVES = [np.float16, bfloat16]
except ImportError:  # an optional package
    HALVES = [np.float16]

INF, NAN = np.inf, np.nan
NAMES = ("top_ids", "top_log_probs", "id_log_probs", "entropy")


def check(x, *, top, axis=-1, layout=sent):
    rows = np.moveaxis(x, axis, -1)
    ids = generator("ids", x.shape).integers(0, rows.shape[-1], (*rows.shape[:-1], 3))
    got = fastloss.score(layout(x), axis=axis, top=top, ids=sent(ids), entropy=True)
    assert got.nll is None and got.correct is None
    top_ids, top_log_probs, id_log_probs, entropy = (fetched(getattr(got, name)) for name in NAMES)
    order = reference.descending(x, axis=axis)[..., :top]
    np.testing.assert_array_equal(top_ids, order)
    np.testing.assert_array_equal(fetched(got.argmax), order[..., 0])
    with np.errstate(all="ignore"):
        log_probs = reference.log_softmax(rows)
        exact = reference.entropy(rows)
    ulp = 2 if result_dtype(x.dtype) == np.float32 else 8
    assert_ulp(entropy, exact, ulp, what="entropy")
    assert_ulp(top_log_probs, np.take_along_axis(log_probs, order, -1), ulp, what="top")
    assert_ulp(id_log_probs, np.take_along_axis(log_probs, ids, -1), ulp, what="ids")


@pytest.mark.expensive
@pytest.mark.parametrize("dtype", [np.float32, np.float64, *HALVES], ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("size", [(5, 1), (5, 2), (4, 8), (3, 13), (4, 61), (3, 130), (1, 300)], ids=str)
def test_against_the_oracle(size, dtype):
    rng = generator("details", size)
    x = (rng.normal(size=size) * rng.choice([0.1, 3.0, 20.0], (size[0], 1))).astype(dtype)
    for top in {1, min(size[1], 4), min(size[1], 23)}:
        check(x, top=top)
    check(np.rint(x.astype(np.float64)).astype(dtype).T.copy(), top=min(size[1], 5), axis=0)  # with ties


def test_ugly_rows():
    for n_classes in (4, 70):
        x = generator("ugly", n_classes).normal(size=(9, n_classes)).astype(np.float32)
        x[0, -1], x[1, 0], x[2, ::2], x[3], x[4], x[5], x[6, 1:] = NAN, INF, -INF, -INF, NAN, 1.5, -100.0
        x[7, [0, 2]], x[7, 3] = NAN, INF
        x[8] = np.sort(x[8])
        for top in (1, 3, n_classes):
            check(x, top=top)


def test_the_first_in_one_thread():
    """Elements that one thread has all of: more than it keeps at a time."""
    x = np.zeros((2, 200), np.float32)
    for step in (4, 8, 32, 256) if SIMULATED else (32, 256):
        x[0] = np.arange(200) % step == 0
        x[0] *= np.arange(200)
        x[1, ::step] = 7.0
        check(x, top=60)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layouts(layout):
    x = generator("layouts").normal(size=(3, 5, 11)).astype(np.float32)
    for axis in (0, 1, 2):
        check(x, top=2, axis=axis, layout=layout)


def test_what_is_asked_for():
    x = generator("asked").normal(size=(6, 9)).astype(np.float32)
    y = sent(np.arange(6))
    plain = fastloss.score(sent(x), y, top_k=2)
    for options in ({"entropy": True}, {"top": 2}, {"ids": sent(np.zeros((6, 1), np.int8))}):
        got = fastloss.score(sent(x), y, top_k=2, **options)
        assert sum(a is not None for a in got) == (8 if "top" in options else 7)
        for name in plain._fields[:6]:
            np.testing.assert_array_equal(fetched(getattr(got, name)), fetched(getattr(plain, name)))
    bare = fastloss.score(sent(x))
    assert [name for name, a in bare._asdict().items() if a is not None] == ["lse", "argmax"]


def test_ids():
    x = generator("ids").normal(size=(4, 6)).astype(np.float32)
    ids = np.array([[0, 5], [1, -100], [2, 2], [3, 3]], np.int16)
    got = fetched(fastloss.score(sent(x), ids=sent(ids)).id_log_probs)
    assert np.isnan(got[1, 1]) and np.isnan(got).sum() == 1
    ids[2, 1] = 6
    with pytest.raises(IndexError, match=r"ids\[2, 1\] = 6 is not in \[0, 6\)"):
        fastloss.score(sent(x), ids=sent(ids))
    with pytest.raises(ValueError, match="top: expected at most 6"):
        fastloss.score(sent(x), top=7)
