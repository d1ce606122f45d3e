"""Calls whose launches are those of an earlier one: with arrays that lie elsewhere, overlap, are read on other streams, or hold what is wrong."""

import threading

import numpy as np
import pytest
from amounts import mostly_full
from compare import same_bits
from test_package import fetched, rows

import fastloss
from fastloss.backends.numba_cuda._compiler import cuda
from fastloss.places.cuda import repeats


@pytest.fixture(autouse=True)
def nothing_kept():
    repeats._kept.clear()
    yield
    repeats._kept.clear()


def kept():
    return len(repeats._kept)


def parts(result):
    found = [part for part in (result if isinstance(result, tuple) else (result,)) if part is not None]
    return [array for part in found for array in (part if isinstance(part, tuple) else (part,))]


CALLS = {
    "mean": lambda x, y: fastloss.cross_entropy(x, y),
    "none": lambda x, y: fastloss.cross_entropy(x, y, reduction="none"),
    "smoothed": lambda x, y: fastloss.cross_entropy(x, y, label_smoothing=0.1),
    "temperature": lambda x, y: fastloss.cross_entropy(x, y, temperature=2.0),
    "gradient": lambda x, y: fastloss.value_and_grad(fastloss.cross_entropy)(x, y),
    "nll": lambda x, y: fastloss.nll_loss(x, y),
    "score": lambda x, y: fastloss.score(x, y, top=2, entropy=True),
    "softmax": lambda x, y: fastloss.softmax(x),
    "mse": lambda x, y: fastloss.mse_loss(x[:, :2], x[:, 2:4]),
    "mse along": lambda x, y: fastloss.mse_loss(x[:, 1:3], x[:, 2:4], axis=1),
    "domain": lambda x, y: fastloss.binary_cross_entropy(fastloss.softmax(x), fastloss.softmax(x)),
    "compare": lambda x, y: fastloss.compare(x, x, y),
}


@pytest.mark.parametrize("name", mostly_full(CALLS, {"mean", "gradient", "score", "domain"}.__contains__))
def test_repeats_are_what_a_first_call_is(name):
    call = CALLS[name]
    given = [rows(7, 9), rows(7, 9, scale=1.5)]
    again = [[fetched(a) for a in parts(call(cuda.to_device(x), cuda.to_device(y)))] for x, y in given * 2]
    first = []
    for x, y in given:
        repeats._kept.clear()
        first.append([fetched(a) for a in parts(call(cuda.to_device(x), cuda.to_device(y)))])
    for k, results in enumerate(again):
        assert all(same_bits(a, b) for a, b in zip(results, first[k % 2], strict=True))


def test_what_is_kept():
    x, y = map(cuda.to_device, rows(7, 9))
    for _ in range(3):
        fastloss.cross_entropy(x, y)
        assert kept() == 1
    fastloss.cross_entropy(x, y, reduction="sum")
    assert kept() == 2
    fastloss.mse_loss(x, x)  # the same array twice: which of them is meant by its address?
    fastloss.rmse_loss(x, cuda.to_device(rows(7, 9)[0]))  # one launch, the root taken there
    assert kept() == 3
    fastloss.value_and_grad(fastloss.rmse_loss)(
        x, cuda.to_device(rows(7, 9)[0])
    )  # whose slopes are divided by the value
    fastloss.cross_entropy(x, y, out=cuda.device_array((), np.float32))
    fastloss.mse_loss(x, 0.5)
    assert kept() == 3


def test_the_same_array_twice_and_then_two():
    (x, _), (other, _) = rows(6, 8), rows(6, 8, scale=1)
    x, other = cuda.to_device(x), cuda.to_device(other)
    assert fetched(fastloss.mse_loss(x, x)) == 0
    apart = fetched(fastloss.mse_loss(x, other))
    assert apart == fetched(fastloss.mse_loss(x, other)) > 0
    assert fetched(fastloss.mse_loss(x, x)) == 0
    assert fetched(fastloss.mse_loss(other, x)) == apart


def test_alignment_is_part_of_the_key():
    x, y = rows(6, 8)
    whole = cuda.to_device(np.concatenate([x[:1, :1].ravel(), x.ravel()]))
    aligned, odd = cuda.to_device(x), whole[1:].reshape(x.shape)
    y = cuda.to_device(y)
    results = [fetched(fastloss.cross_entropy(a, y)) for a in (aligned, odd, aligned, odd)]
    assert len({result.tobytes() for result in results}) == 1
    assert kept() == 2


def test_a_repeat_finds_bad_labels_and_the_next_is_fine():
    x, y = rows(6, 5)
    there, good = cuda.to_device(x), cuda.to_device(y)
    expected = fetched(fastloss.cross_entropy(there, good))
    bad = cuda.to_device(np.where(np.arange(6) == 3, 5, y))
    for _ in range(2):
        with pytest.raises(IndexError, match=r"target\[3\] = 5 is not in \[0, 5\)"):
            fastloss.cross_entropy(there, bad)
        assert fetched(fastloss.cross_entropy(there, good)) == expected
    with fastloss.use_wait(False):  # another kind of call
        assert np.isnan(fetched(fastloss.cross_entropy(there, bad)))
        assert fetched(fastloss.cross_entropy(there, good)) == expected


def test_a_repeat_finds_values_outside_the_domain():
    p = np.full(6, 0.5, np.float32)
    good = cuda.to_device(p)
    for reduction in ("mean", "none"):
        first = fetched(fastloss.binary_cross_entropy(good, cuda.to_device(p), reduction=reduction))
        p_bad = p.copy()
        p_bad[2] = 1.5
        with pytest.raises(ValueError, match=r"probs\[2\] = 1.5"):
            fastloss.binary_cross_entropy(cuda.to_device(p_bad), cuda.to_device(p), reduction=reduction)
        again = fetched(fastloss.binary_cross_entropy(good, cuda.to_device(p), reduction=reduction))
        assert same_bits(first, again)


def test_nan_is_no_error():
    x, y = rows(6, 5)
    fastloss.cross_entropy(cuda.to_device(x), cuda.to_device(y))
    x[2, 1] = np.nan
    assert np.isnan(fetched(fastloss.cross_entropy(cuda.to_device(x), cuda.to_device(y))))


def test_few_long_rows_whose_scratch_memory_grows():
    """Chunks of a row hand over through memory that a longer call replaces."""
    first = rows(1, 40_000)
    there = [cuda.to_device(a) for a in first]
    expected = fetched(fastloss.cross_entropy(*there))
    fastloss.cross_entropy(*(cuda.to_device(a) for a in rows(3, 40_000)))
    assert same_bits(fetched(fastloss.cross_entropy(*there)), expected)


def test_options_of_equal_value_and_another_type():
    x, y = map(cuda.to_device, rows(6, 5))
    fastloss.cross_entropy(x, y, axis=1)
    for axis in (1.0, True):
        with pytest.raises(TypeError, match="axis"):
            fastloss.cross_entropy(x, y, axis=axis)
    with pytest.raises(TypeError, match="label_smoothing"):
        fastloss.cross_entropy(x, y, label_smoothing=None)


def test_streams():
    x, y = rows(6, 5)
    expected = fetched(fastloss.cross_entropy(cuda.to_device(x), cuda.to_device(y)))
    for stream in (cuda.legacy_default_stream(), cuda.per_thread_default_stream()) * 2:
        there = cuda.to_device(x, stream), cuda.to_device(y, stream)
        assert same_bits(fetched(fastloss.cross_entropy(*there)), expected)


def test_threads():
    x, y = rows(6, 5)
    there = cuda.to_device(x), cuda.to_device(y)
    expected = fetched(fastloss.cross_entropy(*there))
    found = []

    def work():
        for _ in range(5):
            found.append(fetched(fastloss.cross_entropy(*there)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20 and all(same_bits(a, expected) for a in found)


def test_the_oldest_is_forgotten(monkeypatch):
    monkeypatch.setattr("fastloss.calls.kept.MOST", 2)
    for n in range(3, 8):
        x, y = map(cuda.to_device, rows(n, 5))
        fastloss.cross_entropy(x, y)
    assert kept() == 2
