"""The sweep: every public function, at every size, however it is called, beside the best of the others and beside the limit.

In each cell the contenders and the limit take turns, and what is reported are medians of ratios within a round.  A peer that is far behind
the fastest one takes no further part: it is not the best one.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from .case import Case
from .contenders import Contender, contenders
from .grid import Cell, Data
from .limit import Limit
from .measure import Batch, Ratio, paired_ratio
from .subject import Call, Unsupported, fastloss_call, value_of

# Calls that take less count as equal, and so do times within this factor.
EQUAL_SECONDS, EQUAL_FACTOR = 5e-6, 1.1

_LEAST, _MOST = 3, 25  # rounds
_HOPELESS = 2.0  # times as slow as the fastest peer, in the first round
_HOPELESS_AT_ONCE = 6.0  # before that, where calls are long
_LONG = 0.1  # seconds
_LEAST_SECONDS = 0.05  # per cell, preparations not counted
_MOST_SECONDS = 2.0


@dataclass(frozen=True)
class Runner:
    """A contender of the sweep.

    Parameters
    ----------
    contender : with the call to be timed.
    threads : on how many its calls run.
    """

    contender: Contender
    threads: int

    @property
    def name(self) -> str:
        return self.contender.name

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Its number of threads, while its calls are timed."""
        if self.contender.packages[0] == "torch":
            from .sweep_torch import threads

            with threads(self.threads):
                yield
        else:
            yield


def _peer(module: str, function: str) -> Callable[..., Call]:
    def prepare(case: Case, arrays: Sequence[np.ndarray], threads: int) -> Call:
        return getattr(importlib.import_module(f"{__package__}.{module}"), function)(case, arrays, threads)

    return prepare


def _contenders() -> dict[str, Contender]:
    """fastloss's backends, and the peers with calls for all cells."""
    ours = {name: each for name, each in contenders().items() if each.is_fastloss}
    torch = partial(Contender, packages=("torch",), modules=("torch",), native=True)
    peers = (
        Contender("numpy", ("numpy",), ("numpy",), _peer("sweep_peers", "numpy_call"), compiles=False),
        Contender("scipy", ("scipy",), ("scipy",), _peer("sweep_peers", "scipy_call"), compiles=False),
        torch("torch", prepare=_peer("sweep_torch", "eager_call")),
        torch("torch-1", prepare=_peer("sweep_torch", "eager_call")),
        torch("torch-widened", prepare=_peer("sweep_torch", "widened_call")),
        torch("torch.compile", prepare=_peer("sweep_torch", "compiled_call"), patient=True),
        Contender("jax", ("jax", "optax"), ("jax", "optax"), _peer("sweep_peers", "jax_call"), native=True),
    )
    return {**ours, **{peer.name: peer for peer in peers}}


def select(patterns: Sequence[str] | None, threads: int) -> list[Runner]:
    """Those that a pattern matches, fastloss first; by default its best backend and every peer that is installed, but not torch.compile.

    Raises
    ------
    LookupError
        If a pattern matches none, or one that is not installed.
    """
    from . import contenders as shared

    everyone = _contenders()
    chosen = shared.chosen(patterns, everyone)
    if patterns is None:
        first = next((each for each in chosen if each.is_fastloss), None)
        chosen = [each for each in chosen if each is first or not each.is_fastloss]
    if not any(each.is_fastloss for each in chosen):
        raise LookupError("a backend of fastloss has to be among them: it is what the others are compared with")
    return [Runner(each, 1 if each.name == "torch-1" else threads) for each in chosen if not _double(each, threads)]


def instruction_set() -> str | None:
    """What the compiled kernels and yardsticks were compiled for; None if there are none."""
    try:
        import fastloss_c
    except ImportError:
        return None
    return fastloss_c.vectors


def _double(contender: Contender, threads: int) -> bool:
    """On one thread the two of torch are the same."""
    return contender.name == "torch-1" and threads == 1


@dataclass
class Outcome:
    """A cell's figures."""

    cell: Cell
    seconds: dict[str, list[float]]  # contender -> seconds per call; the k-th of all, and of the limit, belong together
    arithmetic: list[float]  # the limit's two parts, in seconds
    moving: list[float]
    skipped: dict[str, str] = field(default_factory=dict)  # contender -> why
    differing: dict[str, float] = field(default_factory=dict)  # contender -> its value, which is not fastloss's

    @property
    def reference(self) -> str:
        """fastloss, on the first of the backends."""
        return next(iter(self.seconds))

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, name: str) -> Ratio:
        """fastloss's time by a peer's: above 1, fastloss is slower."""
        return paired_ratio(self.seconds[self.reference], self.seconds[name], resamples=400)

    @property
    def peers(self) -> list[str]:
        """Those whose values are fastloss's."""
        return [name for name in self.seconds if not name.startswith("fastloss") and name not in self.differing]

    @property
    def best(self) -> str | None:
        """The fastest peer."""
        return max(self.peers, key=lambda name: self.ratio(name).median, default=None)

    @property
    def against_best(self) -> float | None:
        """fastloss's time by the fastest peer's; 1 if fastloss takes less time than is told apart."""
        if self.best is None:
            return None
        ratio = self.ratio(self.best).median
        return min(ratio, 1.0) if self.median(self.reference) < EQUAL_SECONDS else ratio

    @property
    def loses(self) -> bool:
        return (self.against_best or 0.0) > EQUAL_FACTOR

    @property
    def share(self) -> Ratio | None:
        """The limit's time by fastloss's; None if the limit is not known."""
        limits = [max(pair) for pair in zip(self.arithmetic, self.moving, strict=True)]
        return paired_ratio(limits, self.seconds[self.reference], resamples=400) if any(limits) else None

    @staticmethod
    def part(rounds: list[float]) -> float | None:
        """A part of the limit, in seconds; None if it is not known."""
        return statistics.median(rounds) if any(rounds) else None

    @property
    def bound(self) -> str:
        """What the limit is: "arithmetic", "memory", or "" if it is not known."""
        sums = sum(self.arithmetic), sum(self.moving)
        return "" if not any(sums) else "arithmetic" if sums[0] > sums[1] else "memory"


def run(
    cells: Sequence[Cell],
    runners: Sequence[Runner],
    *,
    seconds: float,
    threads: int,
    progress: Callable[[int, int, Cell], None] = lambda k, n, cell: None,
) -> list[Outcome]:
    """Measure the cells, spread over all of them, until the time is over; in their own order, without those there was no time for."""
    import fastloss

    for module in {name for runner in runners if runner.name != "jax" for name in runner.contender.modules}:
        importlib.import_module(module)  # takes seconds; JAX has to be told first on how many threads it runs
    end = time.perf_counter() + seconds
    found: dict[int, Outcome] = {}
    data = Data()
    with fastloss.use_threads(threads):
        for k, place in enumerate(spread(len(cells))):
            left = end - time.perf_counter()
            if left <= 0 and found:
                break
            cell = cells[place]
            if cell.case.missing():
                continue
            progress(k, len(cells), cell)
            share = min(max(left / (len(cells) - k), _LEAST_SECONDS), _MOST_SECONDS)
            found[place] = measure(cell, data, runners, seconds=share, threads=threads)
    return [found[place] for place in sorted(found)]


def spread(n: int) -> list[int]:
    """0 … n - 1, so that however many come first lie evenly among all: ordered as multiples of the golden ratio are, modulo 1."""
    golden = (math.sqrt(5) - 1) / 2
    places = [0] * n
    for rank, k in enumerate(sorted(range(n), key=lambda k: k * golden % 1)):
        places[k] = rank
    return places


def measure(cell: Cell, data: Data, runners: Sequence[Runner], *, seconds: float, threads: int) -> Outcome:
    """One cell: all take turns."""
    arrays = data.inputs(cell.case)
    start = time.perf_counter()
    calls, values, skipped = _prepared(cell.case, arrays, runners, threads)
    outcome = Outcome(cell, {}, [], [], skipped)
    if not calls:
        raise Unsupported(f"{cell.name}: no backend of fastloss can compute it")
    reference = next(iter(values))
    for name, value in values.items():
        if not _agrees(cell.case, values[reference], value):
            outcome.differing[name] = value
    with Limit(cell.case, arrays, threads) as limit:
        _take_turns(calls, outcome, limit, start + seconds)
    return outcome


def _prepared(
    case: Case, arrays: Sequence[np.ndarray], runners: Sequence[Runner], threads: int
) -> tuple[dict[str, tuple[Runner, Batch]], dict[str, float], dict[str, str]]:
    calls: dict[str, tuple[Runner, Batch]] = {}
    values: dict[str, float] = {}
    skipped: dict[str, str] = {}
    known: dict[str, float] = {}  # seconds of a warm call
    for runner in runners:
        name = runner.name
        try:
            with runner.in_force(), np.errstate(all="ignore"):
                if runner.contender.is_fastloss:
                    call = fastloss_call(case, arrays, name.removeprefix("fastloss-"))
                else:
                    call = runner.contender.prepare(case, arrays, threads)
                began = time.perf_counter()
                values[name] = value_of(_on_host(call()))
                once = time.perf_counter() - began
                if once < _LONG or runner.contender.compiles:
                    began = time.perf_counter()
                    call()
                    once = time.perf_counter() - began
                calls[name] = runner, Batch(call, seconds=once)
                known[name] = once
        except Unsupported as reason:
            skipped[name] = str(reason)
        except Exception as error:
            if runner.contender.is_fastloss:
                raise
            values.pop(name, None)
            skipped[name] = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:100]}"
    peers = {
        name: took for name, took in known.items() if not name.startswith("fastloss") and math.isfinite(values[name])
    }
    fastest = min(peers.values(), default=math.inf)
    for name, took in peers.items():
        if took > max(_LONG, _HOPELESS_AT_ONCE * fastest):
            del calls[name], values[name]
            skipped[name] = f"left out: a call took {took:.3g} s, the fastest peer's {fastest:.3g}"
    return calls, values, skipped


def _on_host(result: Any) -> Any:
    """A tensor's numbers, of whatever dtype, as NumPy can take them."""
    while isinstance(result, (tuple, list)) and result:
        result = result[0]
    return result.detach().float().numpy() if hasattr(result, "detach") else result


def _agrees(case: Case, mine: float, theirs: float) -> bool:
    """Whether a value is the same but for roundings: those of expressions in float32, or of means in half precision."""
    tolerance = 3e-2 if case.dtype in ("float16", "bfloat16") else 2e-3
    if math.isnan(mine) or math.isnan(theirs):
        return math.isnan(mine) and math.isnan(theirs)
    return math.isclose(mine, theirs, rel_tol=tolerance, abs_tol=1e-4)


def _take_turns(calls: dict[str, tuple[Runner, Batch]], outcome: Outcome, limit: Limit, end: float) -> None:
    taking_part = dict(calls)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for done in range(_MOST):
            began = time.perf_counter()
            for name, (runner, batch) in taking_part.items():
                with runner.in_force(), np.errstate(all="ignore"):
                    outcome.seconds.setdefault(name, []).append(batch.time())
            if limit.known:
                arithmetic, moving = limit.seconds()
                outcome.arithmetic.append(arithmetic)
                outcome.moving.append(moving)
            now = time.perf_counter()
            if done == 0:
                taking_part = _hopeful(taking_part, outcome)
            if now + (now - began) > end and (done + 1 >= _LEAST or now - began > _MOST_SECONDS):
                break
    finally:
        if collecting:
            gc.enable()


def _hopeful(taking_part: dict[str, tuple[Runner, Batch]], outcome: Outcome) -> dict[str, tuple[Runner, Batch]]:
    """Without peers that are far behind the fastest one."""
    first = {name: outcome.seconds[name][0] for name in outcome.peers}
    limit = _HOPELESS * min(first.values(), default=math.inf)
    return {
        name: each
        for name, each in taking_part.items()
        if name.startswith("fastloss") or first.get(name, math.inf) <= limit
    }
