"""Dask arrays: what is computed when and where, by which scheduler, in how much memory; errors; and Accumulators of them."""

import os
import pickle
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from cases import generator
from compare import same_bits

import fastloss
from fastloss import _threads

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")
from dask.callbacks import Callback  # noqa: E402

N_ROWS, N_CLASSES = 60, 12


class Source:
    """Chunks that are made when they are computed, and counted."""

    def __init__(self, chunks, dtype=np.float32, shape=(N_ROWS, N_CLASSES)):
        self.values = generator("source").normal(0, 2, shape).astype(dtype)
        self.made = 0
        self.lock = threading.Lock()
        self.shape, self.dtype, self.ndim = shape, self.values.dtype, len(shape)
        self.array = da.from_array(self, chunks=chunks, name=False, meta=np.empty((0, 0), dtype))

    def __getitem__(self, where):
        with self.lock:
            self.made += 1
        return self.values[where]


def labels(n_rows=N_ROWS, n_classes=N_CLASSES):
    return generator("labels").integers(0, n_classes, n_rows)


def calls(x, y):
    """One of each kind of call, on logits and labels."""
    target = da.ones_like(x)
    scores = fastloss.score(x, y, top_k=2)
    value, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(x, y)
    return {
        "cross_entropy": fastloss.cross_entropy(x, y),
        "each": fastloss.cross_entropy(x, y, reduction="none"),
        "nll_loss": fastloss.nll_loss(x, y),
        "value": value,
        "gradient": gradient,
        "nll": scores.nll,
        "rank": scores.rank,
        "softmax": fastloss.softmax(x),
        "logsumexp": fastloss.logsumexp(x),
        "mse_loss": fastloss.mse_loss(x, target),
        "mse_each": fastloss.mse_loss(x, target, reduction="none"),
        "mse_axis": fastloss.mse_loss(x, target, axis=0, weight=target),
        "mse_gradient": fastloss.value_and_grad(fastloss.mse_loss)(x, target, weight=target)[1],
        "rmse_gradient": fastloss.value_and_grad(fastloss.rmse_loss)(x, target)[1],
        "linear": fastloss.linear_cross_entropy(x, np.eye(N_CLASSES, dtype=np.float32), y),
    }


@pytest.mark.parametrize("chunks", [(10, 12), (10, 5)], ids=["rows", "classes"])
def test_nothing_is_computed_by_a_call(chunks):
    source = Source(chunks)
    lazy = calls(source.array, da.from_array(labels(), chunks=7))
    assert source.made == 0
    for name, result in lazy.items():
        dtype, shape = result.dtype, result.shape  # known, without computing
        value = np.asarray(result.compute(scheduler="synchronous"))
        assert value.dtype == dtype and value.shape == shape, name
    source.made = 0
    lazy["cross_entropy"].compute(scheduler="synchronous")
    assert source.made == source.array.npartitions  # each chunk once


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_schedulers_agree(scheduler):
    x = generator("schedulers").normal(0, 2, (N_ROWS, N_CLASSES)).astype(np.float32)
    for chunks in ((10, 12), (10, 5)):
        lazy = calls(da.from_array(x, chunks=chunks), labels())
        expected = dask.compute(lazy, scheduler="synchronous")[0]
        got = dask.compute(lazy, scheduler=scheduler, num_workers=2)[0]
        assert all(same_bits(got[name], expected[name]) for name in lazy)


def test_sums_are_exact():
    """Neither the shape of the tree of merges nor the order of the chunks matters."""
    rng = generator("exact")
    x = rng.normal(0, 1, (400, 3)) * 10.0 ** rng.integers(-12, 12, (400, 1))
    y, w = np.zeros_like(x), rng.uniform(size=(400, 1))
    order = rng.permutation(40)
    shuffled = np.concatenate([np.arange(10 * i, 10 * i + 10) for i in order])
    accumulator = fastloss.Accumulator(fastloss.mse_loss)
    for first in range(0, 400, 10):
        accumulator.update(x[first : first + 10], y[first : first + 10], weight=w[first : first + 10])
    for rows in (slice(None), shuffled):
        for split_every in (2, 5, 1000):
            with dask.config.set(split_every=split_every, scheduler="synchronous"):
                got = fastloss.mse_loss(da.from_array(x[rows], chunks=10), y[rows], weight=w[rows])
                assert same_bits(got.compute(), accumulator.compute())
                per_output = fastloss.mse_loss(da.from_array(x[rows], chunks=(10, 2)), y[rows], weight=w[rows], axis=0)
                exact = (x.astype(np.longdouble) ** 2 * w).sum(axis=0) / w.astype(np.longdouble).sum()
                np.testing.assert_allclose(per_output.compute(), exact.astype(np.float64), rtol=4e-16)


def test_names_depend_on_what_is_computed_alone():
    """The same call names its results alike, in any process, so that schedulers can share them."""
    x, y = generator("names").normal(size=(20, 6)), labels(20, 6)
    names = {}
    for options in ({}, {"label_smoothing": 0.1}, {"weight": np.ones(6)}, {"ignore_index": 3}, {"reduction": "sum"}):
        for chunks in ((5, 6), (5, 4)):
            first, second = (
                fastloss.cross_entropy(da.from_array(x, chunks=chunks), y, **options).name for _ in range(2)
            )
            assert first == second
            names[first] = None
    assert len(names) == 10
    with fastloss.use_backend("numpy"):
        assert fastloss.cross_entropy(da.from_array(x, chunks=(5, 6)), y).name not in names


def test_backend_is_that_of_the_call():
    """Computing comes later, in other threads, and runs what was asked for."""
    x, y = generator("backend").normal(size=(20, 6)).astype(np.float32), labels(20, 6)
    with fastloss.use_backend("numpy"):
        lazy = fastloss.cross_entropy(da.from_array(x, chunks=(20, 6)), y, reduction="none")
        expected = fastloss.cross_entropy(x, y, reduction="none")
    with dask.config.set(scheduler="threads"):
        assert same_bits(lazy.compute(), expected)


def test_chunks_are_not_computed_on_a_device(monkeypatch):
    lazy = fastloss.mse_loss(da.ones(4), 0.0)
    with pytest.raises(RuntimeError, match="expected one of the host's for Dask arrays"), fastloss.use_backend("cuda"):
        fastloss.mse_loss(da.ones(4), 0.0)
    monkeypatch.setattr(fastloss._config.backend, "_process", "cuda")  # as a worker's environment may have it
    with pytest.raises(RuntimeError, match="expected one of the host's for Dask arrays"):
        lazy.compute(scheduler="synchronous")


def test_one_thread_a_task(monkeypatch):
    numbers, run = [], _threads.run

    def noted(call, n_blocks, n_threads, *more):
        numbers.append(n_threads)
        return run(call, n_blocks, n_threads, *more)

    monkeypatch.setattr(_threads, "run", noted)
    x = np.ones((3 << 20, 2), np.float32)
    with fastloss.use_threads(2):
        fastloss.mse_loss(x, 0.0)
        assert numbers == [2]
        lazy = da.from_array(x, chunks=(3 << 19, 2))
        for loss in (fastloss.mse_loss(lazy, 0.0), fastloss.cross_entropy(lazy, np.zeros(len(x), np.int8))):
            loss.compute(scheduler="threads")
    assert len(numbers) > 1 and set(numbers[1:]) == {1}


def test_settings_of_other_threads_are_left_alone():
    before = fastloss._config.threads.get()
    lazy = fastloss.mse_loss(da.ones((64, 4), chunks=1), 0.0)
    for _ in range(5):
        lazy.compute(scheduler="threads", num_workers=8)
    assert fastloss._config.threads.get() == before


@pytest.mark.parametrize("name", ["cross_entropy", "value", "nll", "rank", "logsumexp", "nll_loss", "mse_loss"])
def test_memory_is_that_of_chunks(name):
    """No task makes anything larger than a chunk: rows of many classes are never brought together."""
    n_rows, n_classes, sizes = 256, 4096, []
    source = Source((64, 512), shape=(n_rows, n_classes))
    chunk = 64 * 512 * 4

    class Sizes(Callback):
        def _posttask(self, key, result, *_):
            sizes.append(getattr(result, "nbytes", 0))

    y = labels(n_rows, n_classes)
    x = source.array
    lazy = {
        "cross_entropy": lambda: fastloss.cross_entropy(x, y, label_smoothing=0.1),
        "value": lambda: fastloss.value_and_grad(fastloss.cross_entropy)(x, y)[1].sum(),
        "nll": lambda: fastloss.score(x, y).nll,
        "rank": lambda: fastloss.score(x, y, top_k=5).rank,
        "logsumexp": lambda: fastloss.logsumexp(x),
        "nll_loss": lambda: fastloss.nll_loss(x, y),
        "mse_loss": lambda: fastloss.mse_loss(x, da.zeros(n_classes), axis=0),
    }[name]()
    # the 256 rows' labels and states, and a chunk in float64, are allowed
    with Sizes(), dask.config.set({"scheduler": "synchronous", "optimization.fuse.active": False}):
        lazy.compute(optimize_graph=False)
    assert chunk <= max(size for size in sizes if size != source.values.nbytes) <= 2 * chunk


def test_graphs_grow_with_the_number_of_chunks_alone():
    """Nothing that a task carries along is longer for more tasks."""
    sizes = []
    for n in (100, 400):
        x = da.zeros((10 * n, 8), chunks=(10, 4), dtype=np.float32)
        lazy = fastloss.cross_entropy(x, da.zeros(10 * n, chunks=10, dtype=np.int64))
        graph = dict(lazy.__dask_graph__())
        sizes.append(sum(len(pickle.dumps(task)) for task in graph.values()) / n)
    assert sizes[1] < 1.1 * sizes[0]


def test_results_can_be_pickled():
    x, y = generator("pickles").normal(size=(20, 6)), labels(20, 6)
    for result in calls(da.from_array(np.tile(x, 2), chunks=(5, 4)), y).values():
        again = pickle.loads(pickle.dumps(result))
        assert again.name == result.name
        assert same_bits(*dask.compute(again, result, scheduler="synchronous"))


def test_dask_is_imported_for_dask_arrays_alone():
    code = "import sys, numpy, fastloss; fastloss.mse_loss(numpy.ones((2, 2)), [1.0, 2.0]); assert 'dask' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- errors -------------------------------------------------------------------------------------------------------------


X, Y = np.ones((4, 3), np.float32), np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    "call",
    [
        lambda x: fastloss.cross_entropy(x, Y[:3]),
        lambda x: fastloss.cross_entropy(x, Y.astype(float)),
        lambda x: fastloss.cross_entropy(x, Y, reduction="average"),
        lambda x: fastloss.cross_entropy(x, Y, weight=[1.0, 2.0]),
        lambda x: fastloss.cross_entropy(x, Y, label_smoothing=2),
        lambda x: fastloss.cross_entropy(x, Y, ignore_index=1.5),
        lambda x: fastloss.cross_entropy(x, Y, axis=2),
        lambda x: fastloss.cross_entropy(x, X, ignore_index=1),
        lambda x: fastloss.cross_entropy(x.astype(complex), Y),
        lambda x: fastloss.cross_entropy(x[:, :0], Y),
        lambda x: fastloss.nll_loss(x, X),
        lambda x: fastloss.mse_loss(x, X[:, :2]),
        lambda x: fastloss.mse_loss(x, X, axis=5),
        lambda x: fastloss.mse_loss(x, X, weight=np.ones(7)),
        lambda x: fastloss.rmse_loss(x, X, reduction="none"),
        lambda x: fastloss.huber_loss(x, X, delta=-1),
        lambda x: fastloss.kl_div(x, X, axis=0, reduction="batchmean"),
        lambda x: fastloss.binary_cross_entropy(x, X[0]),
        lambda x: fastloss.score(x, Y, top_k=0),
        lambda x: fastloss.score(x, Y.astype(float)),
        lambda x: fastloss.softmax(x[0, 0]),
        lambda x: fastloss.linear_cross_entropy(x, np.ones((5, 2)), Y),
        lambda x: fastloss.value_and_grad(fastloss.cross_entropy)(x, Y, reduction="none"),
        lambda x: fastloss.value_and_grad(fastloss.mse_loss)(x, X, axis=0),
        lambda x: fastloss.value_and_grad(fastloss.mse_loss)(x, X, reduction="none"),
    ],
)
def test_arguments_are_checked_by_the_call(call):
    """With the host's errors, and before anything is computed."""
    with pytest.raises((TypeError, ValueError)) as host:
        call(X)
    source = Source((2, 2), shape=X.shape)
    with pytest.raises(host.type, match=f"^{re.escape(str(host.value))}$"):
        call(source.array)
    assert source.made == 0


@pytest.mark.parametrize("chunks", [(2, 3), (2, (1, 2)), (1, 1)])
def test_bad_labels_are_named_by_their_place_in_the_whole_array(chunks):
    x, y = da.from_array(np.ones((3, 9, 3), np.float32), chunks=(2, *chunks)), np.zeros((3, 9), np.int16)
    y[1, 7], y[2, 1], y[0, 0] = 3, -7, -100
    reductions = {"mean": IndexError, "sum": IndexError, "none": IndexError}
    for loss in (fastloss.cross_entropy, fastloss.nll_loss):
        for reduction, error in reductions.items():
            # a reduction knows all chunks; single rows those that they are computed with
            expected = r"target\[1, 7\] = 3 is" if reduction != "none" else r"target\[(1, 7\] = 3|2, 1\] = -7) is"
            with pytest.raises(error, match=expected):
                loss(x, y, reduction=reduction).compute(scheduler="synchronous")
            if reduction == "none":
                continue
            for result in fastloss.value_and_grad(loss)(x, y, reduction=reduction):
                with pytest.raises(error, match=r"target\[(1, 7\] = 3|2, 1\] = -7) is"):
                    result.compute(scheduler="synchronous")
    probs = fastloss.softmax(x)
    with pytest.raises(IndexError, match=r"target\[1, 7\] = 3 is not in \[0, 3\)"):
        fastloss.categorical_cross_entropy(probs, y).compute(scheduler="synchronous")
    for result in fastloss.score(x, y, top_k=2)[:6]:
        with pytest.raises(IndexError, match=r"target\[(1, 7\] = 3|2, 1\] = -7) is"):
            result.compute(scheduler="synchronous")
    with pytest.raises(IndexError, match=r"target\[1, 7\] = 3 is"):
        fastloss.linear_cross_entropy(x, np.eye(3), y).compute(scheduler="synchronous")
    # good rows can be had
    assert np.isfinite(fastloss.cross_entropy(x, y, reduction="none")[1, :2].compute()).all()


def test_values_outside_the_domain_are_named_by_their_place():
    probs, target = np.full((6, 4), 0.5), np.full((6, 4), 0.5)
    probs[5, 2], probs[4, 3], target[0, 1] = 1.5, -1.0, 2.0
    lazy, wanted = da.from_array(probs, chunks=(2, 3)), da.from_array(target, chunks=(2, 3))
    for reduction in ("mean", "none"):
        first = r"probs\[4, 3\] = -1.0" if reduction == "mean" else r"(probs\[|target\[)"
        with pytest.raises(ValueError, match=first):
            fastloss.binary_cross_entropy(lazy, wanted, reduction=reduction).compute(scheduler="synchronous")
    with pytest.raises(ValueError, match=r"target\[0, 1\] = 2.0"):
        fastloss.binary_cross_entropy(target * 0.5, wanted).compute(scheduler="synchronous")
    for truth in (np.zeros(6, int), np.full((6, 4), 0.25)):
        with pytest.raises(ValueError, match=r"probs: expected values in \[0, 1\], got probs\[4, 3\] = -1.0"):
            fastloss.categorical_cross_entropy(lazy, truth).compute(scheduler="synchronous")
    var = np.ones(6)
    var[4] = -2.0
    with pytest.raises(ValueError, match=r"var: expected values of at least 0, got var\[4, 0\] = -2.0"):
        fastloss.gaussian_nll_loss(lazy, target, var).compute(scheduler="synchronous")
    with pytest.raises(ValueError, match=r"got var\[4, 0\] = -2.0"):
        fastloss.gaussian_nll_loss(lazy, target, var, axis=0).compute(scheduler="synchronous")


def test_what_cannot_be_done_lazily():
    x = da.ones((6, 4), chunks=2)
    with pytest.raises(TypeError, match="out: the results of Dask arrays are lazy"):
        fastloss.mse_loss(x, 0.0, out=np.empty(()))
    with pytest.raises(TypeError, match="out: the results of Dask arrays are lazy"):
        fastloss.value_and_grad(fastloss.mse_loss)(x, 0.0, out=np.empty((6, 4)))
    with pytest.raises(TypeError, match="out: the results of Dask arrays are lazy"):
        fastloss.softmax(x, out=np.empty((6, 4)))
    with pytest.raises(ValueError, match=r"pred: expected chunks of known sizes, got shape \(nan, 4\)"):
        fastloss.mse_loss(x[x[:, 0] > 0], 0.0)
    with pytest.raises(TypeError, match="pred: masked arrays"):
        fastloss.mse_loss(da.ma.masked_less(x, 0.5), 0.0)
    with pytest.raises(ValueError, match="only the gradient of hidden"):
        fastloss.value_and_grad(fastloss.linear_cross_entropy, wrt="linear_weight")(x, np.eye(4), np.zeros(6, int))


# --- accumulators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [(7, 12), (7, 5)], ids=["rows", "classes"])
@pytest.mark.parametrize(
    "loss, options",
    [
        (fastloss.cross_entropy, {"label_smoothing": 0.1, "ignore_index": 3}),
        (fastloss.nll_loss, {}),
        (fastloss.mse_loss, {}),
        ("perplexity", {}),
        ("accuracy", {"ignore_index": 3}),
        ("accuracy", {"top_k": 3}),
        ("bits_per_byte", {}),
    ],
)
def test_accumulator(loss, options, chunks):
    x, y = generator("accumulator").normal(0, 2, (N_ROWS, N_CLASSES)).astype(np.float32), labels()
    target = [np.ones_like(x)] if loss is fastloss.mse_loss else [y]
    target += [np.arange(N_ROWS)] if loss == "bits_per_byte" else []
    plain, lazy = fastloss.Accumulator(loss, **options), fastloss.Accumulator(loss, **options)
    plain.update(x, *target)
    with dask.config.set(scheduler="synchronous"):
        for rows in (slice(0, 25), slice(25, None)):
            pieces = [da.from_array(a[rows], chunks=chunks[: a.ndim]) for a in (x, *target)]
            lazy.update(*pieces)
    assert lazy.count == plain.count
    np.testing.assert_allclose(lazy.compute(), plain.compute(), rtol=1e-7)
    with dask.config.set(scheduler="synchronous"), pytest.raises((IndexError, ValueError)):
        lazy.update(da.from_array(x, chunks=chunks), np.full(N_ROWS, 99), *target[1:])
    assert lazy.count == plain.count


# --- distributed --------------------------------------------------------------------------------------------------------


def _fragile(block_id, flag):
    """A chunk of logits; one of them takes its worker down the first time."""
    if block_id == (4, 1) and not os.path.exists(flag):
        with open(flag, "w"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return np.random.default_rng(block_id).normal(0, 2, (16, 20)).astype(np.float32)


def _of(block_id=None, flag=None):
    return _fragile(block_id, flag)


def test_a_cluster_and_a_worker_that_is_killed(tmp_path):
    distributed = pytest.importorskip("distributed")
    y = labels(160, 60)
    flag = tmp_path / "killed"
    chunks = ((16,) * 10, (20,) * 3)
    lazy = da.map_blocks(_of, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0), np.float32), flag=str(flag))
    results = calls_of_a_cluster(lazy, y)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0", local_directory=tmp_path
    ) as cluster:
        with cluster.get_client() as client:
            (got,) = client.compute([results], sync=True)
            with pytest.raises(IndexError, match=r"target\[150\] = 77 is"):
                fastloss.cross_entropy(lazy, np.where(np.arange(160) == 150, 77, y)).compute()
    assert flag.exists()  # and so a worker was lost, with what it had computed
    (expected,) = dask.compute(results, scheduler="synchronous")
    assert all(same_bits(got[name], expected[name]) for name in results)


def calls_of_a_cluster(x, y):
    scores = fastloss.score(x, y, top_k=3)
    value, gradient = fastloss.value_and_grad(fastloss.cross_entropy)(x, y)
    return {"loss": value, "gradient": gradient, "rank": scores.rank, "softmax": fastloss.softmax(x)}
