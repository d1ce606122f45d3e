"""What an evaluator of models is told, against mpmath: divergences, entropies and the most likely classes, for few classes and for a vocabulary, of
random and of ugly rows, at ordinary, tiny and huge temperatures and under a soft cap."""

import functools
import heapq

import mpmath
import numpy as np
import pytest
from amounts import mostly_full
from cases import generator
from compare import assert_ulp
from test_transforms import by_name, exactly

import fastloss

INF = np.inf
TOP = 5
LEAST = 1e-12  # divergence from which on 1e-5 of it are promised
OPTIONS = (
    {},
    {"temperature": 0.7},
    {"temperature": 1e-3},
    {"temperature": 1e4},
    {"temperature": 1e-30},
    {"temperature": 1e30},
    {"softcap": 30.0},
    {"softcap": 2.0, "temperature": 1e-2},
)
VOCABULARY = 128_256


def pairs(n_classes):
    """Rows of two models, of float32."""
    rng = generator("models", n_classes)
    at = np.arange(n_classes)
    likely = 3 * rng.normal(size=n_classes)
    noise = rng.normal(size=n_classes)
    if n_classes == VOCABULARY:
        return tuple(np.array([row], np.float32) for row in (likely, likely + noise / 100))
    far = np.where(at == 1, 20.0, 0.0)
    wide = np.where(at % 2, -1e4, 1e4)
    ruled_out = np.where(at == 0, 1.0, -INF)
    found = [
        (likely, likely + 1e-6 * noise),
        (likely, likely + noise / 10),
        (likely, likely[::-1]),
        (likely, likely),
        (30 * likely, 30 * likely + noise),
        (far, far + noise / 10),
        (far, -far),
        (1e4 + noise, 1e4 + noise + noise**2 / 100),
        (wide, wide + 0.5 * (at == 0)),
        (np.zeros(n_classes), np.where(at == 0, 1e-3, 0.0)),
        (np.where(at == 0, 1e-30, -1e-30), np.zeros(n_classes)),
        (ruled_out, ruled_out),
        (ruled_out, likely),
        (likely, ruled_out),
    ]
    return tuple(np.array(rows, np.float32) for rows in zip(*found, strict=True))


def as_float(value):
    return float(value) if value < 1e308 else INF


def divergence(costs, other):
    with mpmath.workdps(40):
        likely = [(cost, its) for cost, its in zip(costs, other, strict=True) if not mpmath.isinf(cost)]
        return mpmath.fsum(mpmath.exp(-cost) * (its - cost) for cost, its in likely)


def entropy(costs):
    with mpmath.workdps(40):
        return mpmath.fsum(mpmath.exp(-cost) * cost for cost in costs if not mpmath.isinf(cost))


@functools.cache
def expected(n_classes, temperature=1.0, softcap=None):
    """Divergences, entropies and the largest log-probabilities of all rows, once for all backends."""
    of_reference, others = ([exactly(row, temperature, softcap)[0] for row in rows] for rows in pairs(n_classes))
    return (
        [as_float(divergence(*costs)) for costs in zip(of_reference, others, strict=True)],
        [as_float(entropy(costs)) for costs in of_reference],
        [[-as_float(cost) for cost in heapq.nsmallest(TOP, costs)] for costs in of_reference],
    )


CASES = [(n, options) for n in (2, 10, 1000) for options in OPTIONS]
CASES += [(VOCABULARY, options) for options in (OPTIONS[0], OPTIONS[1], OPTIONS[6])]


@pytest.mark.any_backend("options")
@pytest.mark.parametrize(
    "n_classes, options",
    mostly_full(CASES, lambda case: case[0] < VOCABULARY),
    ids=lambda v: by_name(v) or "plain" if isinstance(v, dict) else str(v),
)
def test_against_mpmath(n_classes, options):
    r, x = pairs(n_classes)
    divergences, entropies, largest = expected(n_classes, **options)
    got = fastloss.compare(r, x, **options).kl
    assert got.dtype == np.float32 and (got >= 0).all()
    for row, (kl, wanted) in enumerate(zip(got, divergences, strict=True)):
        if wanted > np.finfo(np.float32).max:
            assert kl == INF, row
        else:
            assert abs(float(kl) - wanted) <= 1e-5 * max(wanted, LEAST), (row, kl, wanted)
    assert not fastloss.compare(r, r.copy(), **options).kl.any()

    scores = fastloss.score(r, entropy=True, top=min(TOP, n_classes), **options)
    assert_ulp(scores.entropy, entropies, 2, what="entropy")
    assert_ulp(scores.top_log_probs, largest, 2, what="top")
