"""Pieces scored by the workers of a Dask cluster: processes of this machine, or whatever a scheduler has."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fastloss.cli import library
from fastloss.cli.eval.plan.opened import Request
from fastloss.cli.eval.plan.plan import Piece
from fastloss.cli.failure import Failure

from .pieces import Result, run_piece

_PATIENCE = 20  # seconds for a scheduler to answer, and to have a worker
_AHEAD = 3  # pieces handed out for each thread: enough to keep it busy, few enough for their results to fit


def dask_setup(worker: Any) -> None:
    """What a worker of this machine runs first: Ctrl-C is for the process to answer that started it, and ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C counts after the block: a cluster that is half started cannot be closed."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            raise KeyboardInterrupt


def _absolute(request: Request) -> Request:
    """The same with names that mean the same in any folder: workers that were started elsewhere are in another."""
    named = {
        name: getattr(request, name)
        for name in ("predictions", "targets", "weight", "reference", "linear_weight", "linear_bias")
    }
    return replace(request, **{name: os.path.abspath(path) for name, path in named.items() if path is not None})


class Cluster:
    """A client of `distributed`, which runs a worker's pieces again if it dies; a piece's result is taken once."""

    def __init__(self, workers: int | None, scheduler: str | None) -> None:
        from fastloss._optional import require

        option = "--workers" if scheduler is None else "--scheduler"
        try:
            distributed = require("distributed", "dask", option)
        except ImportError as error:
            raise Failure(None, str(error)) from None
        self._distributed, self._remote = distributed, scheduler is not None
        self._backend = library.backend_in_use()  # the workers' too, as backends differ in the last bit
        self._stack = contextlib.ExitStack()
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # failures are told once, by this program
        try:
            if scheduler is None:
                settings: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "processes": True}
                settings |= {"dashboard_address": None, "silence_logs": logging.CRITICAL, "memory_limit": 0}
                # there is a server all the same, which warns where its usual port is taken
                settings["scheduler_kwargs"] = {"dashboard_address": "localhost:0"}
                with _undisturbed():
                    cluster = self._stack.enter_context(distributed.LocalCluster(**settings, preload=[__name__]))
                    self._client = self._stack.enter_context(distributed.Client(cluster))
            else:
                self._client = self._stack.enter_context(distributed.Client(scheduler, timeout=_PATIENCE))
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except KeyboardInterrupt:
            self._stack.close()
            raise
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            self._stack.close()
            raise Failure(option, f"no cluster at {scheduler or 'this machine'}: {error}") from None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def results(self, pieces: Iterator[Piece]) -> Iterator[Result]:
        """The results, in the order in which they come; one thread computes a piece."""
        n_threads = sum(self._client.nthreads().values())
        waiting: dict[Any, Piece] = {}
        done = self._distributed.as_completed()

        def hand_out() -> None:
            piece = next(pieces, None)
            if piece is not None:
                piece = replace(piece, backend=self._backend, threads=1)
                if self._remote:
                    piece = replace(piece, request=_absolute(piece.request))
                future = self._client.submit(run_piece, piece, pure=False)
                waiting[future] = piece
                done.add(future)

        for _ in range(_AHEAD * max(1, n_threads)):
            hand_out()
        for future in done:
            piece = waiting.pop(future)
            yield self._result(future, piece)
            future.release()
            hand_out()

    def _result(self, future: Any, piece: Piece) -> Result:
        try:
            return future.result()
        except Failure:
            raise
        except self._distributed.KilledWorker:
            raise Failure(piece.request.predictions, "the workers that scored this died, several times") from None
        except Exception as error:
            problem = f"failed on a worker: {type(error).__name__}: {error}"
            raise Failure(piece.request.predictions, problem) from None
