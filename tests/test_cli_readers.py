"""Formats of `fastloss eval`: what each gives is what NumPy gives for the same numbers, in pieces and in shards."""

import json
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from amounts import mostly_full
from subprocesses import run_python

import fastloss
from fastloss.cli import main
from fastloss.cli.failure import Failure
from fastloss.cli.files import Stored, formats, open_array, pages, split

N, CLASSES = 500, 7
INCIDENTAL = {"seconds", "rows_per_second", "gigabytes_per_second", "predictions", "targets", "shards", "chunk_size"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def evaluate(capsys):
    def run(*arguments):
        code = main(["eval", *map(str, arguments), "--json"])
        captured = capsys.readouterr()
        assert (code, captured.err) == (0, "")
        result = json.loads(captured.out)
        return {key: value for key, value in result.items() if key not in INCIDENTAL}

    return run


def data(shape=(N, CLASSES), dtype="f4"):
    rng = np.random.default_rng(40)
    y = rng.integers(0, shape[-1], shape[:-1])
    y.flat[::11] = -100
    return (rng.normal(size=shape) * 3).astype(dtype), y


# How each format is written: `write(path, x, y)` returns the names of the two arrays.


def write_safetensors(path, x, y):
    from safetensors.numpy import save_file

    arrays = {"logits": np.ascontiguousarray(x), "labels": np.ascontiguousarray(y)}
    save_file(arrays, f"{path}.safetensors", metadata={"who": "a test"})
    return f"{path}.safetensors:logits", f"{path}.safetensors:labels"


def write_zarr(path, x, y):
    import zarr

    zarr.save_array(f"{path}-y.zarr", y)
    array = zarr.create_array(f"{path}-x.zarr", shape=x.shape, dtype=x.dtype, chunks=(37, *x.shape[1:]))
    array[:] = x
    return f"{path}-x.zarr", f"{path}-y.zarr"


def write_zarr_group(path, x, y):
    import zarr

    store = zarr.open_group(f"{path}.zarr", mode="w").store
    chunks, shards = ((n, *x.shape[1:]) for n in (10, 50))
    # zarr 3.0 stores only some chunks of a shard if it is given `data=`
    zarr.create_array(store, name="run/x", shape=x.shape, dtype=x.dtype, chunks=chunks, shards=shards)[:] = x
    zarr.create_array(store, name="y", data=y)
    return f"{path}.zarr:run/x", f"{path}.zarr:y"


def write_zarr_zip(path, x, y):
    import zarr

    with zarr.storage.ZipStore(f"{path}.zip", mode="w") as store:
        zarr.group(store)
        zarr.create_array(store, name="x", data=x, chunks=(100, *x.shape[1:]))
        zarr.create_array(store, name="y", data=y)
    return f"{path}.zip:x", f"{path}.zip:y"


def table(x, y, kind="fixed"):
    import pyarrow as pa

    def column(array):
        if array.ndim == 1:
            return pa.array(array)
        if kind == "tensor":
            return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(array))
        if kind == "list":
            kind_of = pa.from_numpy_dtype(array.dtype)
            for _ in array.shape[1:]:
                kind_of = pa.list_(kind_of)
            scalars = np.frompyfunc(array.dtype.type, 1, 1)(array)  # pyarrow < 21 makes halves of NumPy's alone
            return pa.array(scalars.tolist(), kind_of)
        return pa.FixedSizeListArray.from_arrays(column(array.reshape(-1, *array.shape[2:])), array.shape[1])

    return pa.table({"x": column(x), "y": column(y), "text": ["a"] * len(y)})


def write_parquet(path, x, y):
    from pyarrow import parquet

    parquet.write_table(table(x, y), f"{path}.parquet", row_group_size=60)
    return f"{path}.parquet:x", f"{path}.parquet:y"


def write_parquet_lists(path, x, y):
    from pyarrow import parquet

    parquet.write_table(table(x, y, "list"), f"{path}.parquet", row_group_size=77, store_schema=False)
    return f"{path}.parquet:x", f"{path}.parquet:y"


def write_feather(path, x, y):
    from pyarrow import feather

    feather.write_feather(table(x, y, "tensor"), f"{path}.feather", compression="uncompressed", chunksize=120)
    return f"{path}.feather:x", f"{path}.feather:y"


def write_arrow(path, x, y):
    import pyarrow as pa

    with pa.OSFile(f"{path}.arrow", "wb") as file:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(file, table(x, y).schema, options=options) as writer:
            writer.write_table(table(x, y), max_chunksize=64)
    return f"{path}.arrow:x", f"{path}.arrow:y"


def write_arrow_stream(path, x, y):
    import pyarrow as pa

    with pa.OSFile(f"{path}.arrow", "wb") as file, pa.ipc.new_stream(file, table(x, y).schema) as writer:
        writer.write_table(table(x, y), max_chunksize=64)
    return f"{path}.arrow:x", f"{path}.arrow:y"


FORMATS = {
    "safetensors": ("safetensors", write_safetensors),
    "zarr": ("zarr", write_zarr),
    "zarr-group": ("zarr", write_zarr_group),
    "zarr-zip": ("zarr", write_zarr_zip),
    "parquet": ("pyarrow", write_parquet),
    "parquet-lists": ("pyarrow", write_parquet_lists),
    "feather": ("pyarrow", write_feather),
    "arrow": ("pyarrow", write_arrow),
    "arrow-stream": ("pyarrow", write_arrow_stream),
}


def write_llama_cpp(path, logits, tokens):
    """The file that llama-perplexity writes for logits (n_chunk, n_ctx, n_vocab), by the same steps: of each chunk it keeps the second half."""
    n_chunk, n_ctx, n_vocab = logits.shape
    data = b"_logits_" + struct.pack("<3i", n_ctx, n_vocab, n_chunk) + tokens.astype("<i4").tobytes()
    for chunk in logits.astype(np.float32):
        for row in chunk[n_ctx // 2 : n_ctx - 1]:
            largest = row.max()
            smallest = max(row.min(), largest - np.float32(16))
            log_sum_exp = np.float32(np.log(np.exp(row - largest).sum(dtype=np.float64)))
            scale = (largest - smallest) / np.float32(65535)
            codes = np.zeros(n_vocab + n_vocab % 2, "<u2")
            if scale:
                codes[:n_vocab] = np.rint(np.float32(1) / scale * np.maximum(row - smallest, 0))
            data += struct.pack("<2f", scale, smallest - largest - log_sum_exp) + codes.tobytes()
    Path(f"{path}.kld").write_bytes(data)
    return f"{path}.kld", f"{path}.kld:targets"


def base_logits(n_chunk=3, n_ctx=10, n_vocab=CLASSES, seed=43, spread=3.0):
    """Logits and tokens of chunks, some of them alike, or far below the others."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(n_chunk, n_ctx, n_vocab)) * spread).astype("f4")
    logits[0, -2] = 1.5
    logits[0, -3, 1:] -= 100
    return logits, rng.integers(0, n_vocab, (n_chunk, n_ctx))


@pytest.fixture(params=FORMATS)
def write(request):
    package, write = FORMATS[request.param]
    pytest.importorskip(package)
    return write


def test_every_format_is_written_here(folder):
    """Every reader in `formats.FORMATS` is tested on a file that a function above has written, .npy's by most tests."""
    found = {"npy"}
    written = [write_llama_cpp("data", *base_logits())[0]]
    for package, write in FORMATS.values():
        pytest.importorskip(package)
        written.append(write("data", *data())[0])
    for path, _ in map(split, written):
        head = b"" if os.path.isdir(path) else Path(path).read_bytes()[:10]
        found.add(formats.format_of(path, head).module)
    missing = {format.module for format in formats.FORMATS} - found
    assert not missing, f"no write_... here for {sorted(missing)}: see CONTRIBUTING.md, A reader of files"


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_the_same_figures(evaluate, folder, write, dtype):
    x, y = data(dtype=dtype)
    np.save("x.npy", x)
    np.save("y.npy", y)
    expected = evaluate("x.npy", "y.npy", "--top-k", 2, "--per-sample", "a.npy")
    names = write("data", x, y)
    del expected["per_sample"]
    for chunk in 16, 1000:
        result = evaluate(*names, "--top-k", 2, "--chunk-size", chunk, "--per-sample", "b.npy")
        del result["per_sample"]
        assert result == expected  # every bit
        assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes()
    assert evaluate(names[0], "y.npy") == evaluate("x.npy", names[1])


def test_more_axes_and_values(evaluate, folder, write):
    x, y = data((40, 5, 3))
    np.save("x.npy", x)
    np.save("y.npy", y)
    names = write("data", x, y)
    assert evaluate(*names, "--chunk-size", 7) == evaluate("x.npy", "y.npy")
    if "list" not in write.__name__:
        np.save("x.npy", moved := np.ascontiguousarray(np.moveaxis(x, 2, 1)))
        names = write("moved", moved, y)
        assert evaluate(*names, "--axis", 1) == evaluate("x.npy", "y.npy", "--axis", 1)
    values = np.random.default_rng(41).normal(size=(2, 300))
    names = write("values", *values)
    result = evaluate(*names)
    assert result["loss"] == "mse_loss"
    assert result["mean"] == pytest.approx(((values[0] - values[1]) ** 2).mean(), rel=1e-12)
    column = write("column", values[0][:, None], values[1])
    assert evaluate(*column)["mean"] == pytest.approx(result["mean"], rel=1e-12)
    assert evaluate(*names, "--axis", 0, "--weight", names[0])["value"] == pytest.approx(
        np.average((values[0] - values[1]) ** 2, weights=values[0])
    )


def test_shards_of_every_format(evaluate, folder, write):
    x, y = data()
    np.save("x.npy", x)
    np.save("y.npy", y)
    (folder / "d").mkdir()
    for i in range(3):
        names = write(f"d/part{i}", x[i::3], y[i::3])
    np.save("x.npy", np.concatenate([x[i::3] for i in range(3)]))
    np.save("y.npy", np.concatenate([y[i::3] for i in range(3)]))
    expected = evaluate("x.npy", "y.npy")
    patterns = [name.replace("part2", "part*") for name in names]
    assert evaluate(*patterns) == expected
    if ":" in names[0]:
        assert evaluate("d:" + names[0].split(":")[1], "d:" + names[1].split(":")[1]) == expected
    if "zarr" not in write.__name__:
        return
    assert evaluate(*patterns, "--chunk-size", 5) == expected


def test_bfloat16_safetensors(evaluate, folder):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x, y = data()
    x = x.astype(bfloat16)
    header = {"x": {"dtype": "BF16", "shape": list(x.shape), "data_offsets": [0, x.nbytes]}}
    text = json.dumps(header).encode().ljust(127)  # the data begin at an odd place
    Path("x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + x.tobytes())
    np.save("x.npy", x)
    np.save("y.npy", y)
    assert evaluate("x.safetensors", "y.npy") == evaluate("x.npy", "y.npy")
    assert open_array("x.safetensors").array.dtype == bfloat16


def test_bfloat16_of_torch(evaluate, folder):
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    x, y = data()
    save_file({"x": torch.tensor(x).bfloat16(), "y": torch.tensor(y)}, "t.safetensors")
    np.save("x.npy", torch.tensor(x).bfloat16().float().numpy())
    np.save("y.npy", y)
    ours, theirs = evaluate("t.safetensors:x", "t.safetensors:y"), evaluate("x.npy", "y.npy")
    assert ours["correct"] == theirs["correct"] and ours["mean"] == pytest.approx(theirs["mean"], rel=1e-6)


def test_what_else_lies_in_a_zarr_directory(evaluate, folder, recwarn):
    """Files that no array knows, as desktops leave them, are passed over in silence."""
    pytest.importorskip("zarr")
    x, y = data()
    names = write_zarr_group("data", x, y)
    expected = evaluate(*names)
    for place in ("data.zarr", "data.zarr/run", "data.zarr/run/x", "data.zarr/run/x/c"):
        Path(place, ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        Path(place, "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    assert evaluate(*names) == expected
    assert not recwarn.list


def test_npy_version_3(evaluate, folder):
    x, y = data()
    np.save("x.npy", x)
    np.save("y.npy", y)
    expected = evaluate("x.npy", "y.npy")
    for version in (1, 0), (2, 0), (3, 0):
        with open("x.npy", "wb") as file:
            np.lib.format.write_array(file, x, version=version)
        assert Path("x.npy").read_bytes()[6:8] == bytes(version)
        assert evaluate("x.npy", "y.npy") == expected


def test_numbers_that_are_too_small(error, folder):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    np.save("y.npy", np.zeros(4, int))
    expected = "is not supported: floating-point numbers of 16 bits or more are expected"
    for kind, what in (
        ("float8_e5m2", "dtype float8_e5m2"),
        ("float8_e4m3fn", "dtype |V1 may be float8, or another type of ml_dtypes that"),
        ("int4", "dtype |V1 may be float8, or another type of ml_dtypes that"),
    ):
        x = np.ones((4, 3)).astype(getattr(ml_dtypes, kind))
        np.save("x.npy", x)
        np.savez("x.npz", x=x)
        np.savez_compressed("c.npz", x=x)
        for name in ("x.npy", "x.npz:x", "c.npz:x"):
            assert error(name, "y.npy") == f"{name}: {what} {expected}"


# Nothing is held as a whole.

MAPPED = [
    "npy",
    "npz",
    "safetensors",
    "arrow",
    "llama_cpp",
    "weights",
    "columns",
    "long columns",
    "classes first",
    "values",
]


def empty_base_logits(path, n_rows, n_vocab):
    """A file of llama.cpp's, all of whose numbers are 0, in holes of the file."""
    with open(path, "wb") as file:
        file.write(b"_logits_" + struct.pack("<3i", 4, n_vocab, n_rows))  # of a chunk one row is kept
        file.truncate(20 + 16 * n_rows + n_rows * (8 + 2 * n_vocab))


@pytest.mark.parametrize("name", ["zarr", "parquet", "safetensors", "llama_cpp"])
def test_memory_is_a_piece(folder, name, capsys):
    if name in FORMATS:
        pytest.importorskip(FORMATS[name][0])
    rng = np.random.default_rng(42)
    x, y = rng.random((1 << 17, 32), dtype=np.float32), rng.integers(0, 32, 1 << 17)  # 16 MiB
    if name == "zarr":
        import zarr

        zarr.create_array("x.zarr", data=x, chunks=(1 << 12, 32))
        zarr.create_array("y.zarr", data=y, chunks=(1 << 12,))
        names = ["x.zarr", "y.zarr"]
    elif name == "parquet":
        from pyarrow import parquet

        parquet.write_table(table(x, y), "x.parquet", row_group_size=1 << 13)
        names = ["x.parquet:x", "x.parquet:y"]
    elif name == "llama_cpp":
        names = ["x.kld", "x.kld:targets"]
        empty_base_logits("x.kld", 1 << 17, 32)
    else:
        names = write_safetensors("x", x, y)
    monkey = pytest.MonkeyPatch()
    if name in ("zarr", "llama_cpp"):
        monkey.setattr(f"fastloss.cli.files.{name}._BLOCK_BYTES", 1 << 20)
    try:
        arguments = ["eval", *names, "--chunk-size", "4096"]
        assert main(arguments) == 0
        tracemalloc.start()
        assert main(arguments) == 0
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
        monkey.undo()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a system that takes advice on maps")
@pytest.mark.parametrize("kind", mostly_full(MAPPED, {"npy", "arrow", "weights", "columns"}.__contains__))
def test_a_mapped_file_is_given_back(folder, kind):
    """What a process has looked at is no longer counted as its memory."""
    n, classes = 1 << 19, 256  # 256 MiB of float16, in holes of a file
    if kind in ("columns", "classes first", "values"):
        n, classes = 1 << 12, 1 << 15  # each chunk takes a few elements of every page
    shape = (classes, n) if kind == "classes first" else (n, classes)
    x = np.lib.format.open_memmap("x.npy", "w+", np.float16, shape, fortran_order=kind[-7:] in ("columns", "values"))
    np.save("y.npy", np.zeros(n, np.uint8))
    names = ["x.npy", "y.npy"]
    if kind == "classes first":
        names += ["--axis", "0"]
    if kind == "npz":
        np.savez("x.npz", x=x)
        names[0] = "x.npz:x"
    elif kind == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file({"x": x}, "x.safetensors")
        names[0] = "x.safetensors"
    elif kind == "arrow":
        pa = pytest.importorskip("pyarrow")
        column = pa.FixedSizeListArray.from_arrays(x[: n // 50].ravel(), classes)
        with pa.OSFile("x.arrow", "wb") as file, pa.ipc.new_file(file, pa.table({"x": column}).schema) as writer:
            for _ in range(50):
                writer.write_batch(pa.RecordBatch.from_arrays([column], ["x"]))
        np.save("y.npy", np.zeros(50 * len(column), np.uint8))
        names[0] = "x.arrow"
    elif kind == "llama_cpp":
        names = ["x.kld", "x.kld:targets"]
        empty_base_logits("x.kld", n, classes)
    elif kind == "values":
        names = ["x.npy", "x.npy", "--weight", "x.npy", "--per-sample", "losses.npy"]
    elif kind == "weights":
        names = ["x.npy", "x.npy", "--weight", "x.npy", "--loss", "l1_loss"]  # mapped three times
    del x
    code = f"""
        import re, sys
        from fastloss.cli import main

        code = main(["eval", *{names!r}, "--json"])
        print(re.search("VmHWM: *(.*) kB", open("/proc/self/status").read())[1], file=sys.stderr)
        sys.exit(code)
    """
    done = run_python(code, PYTHONPATH=str(Path(fastloss.__file__).parents[1]))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"]["shape"][0 if kind == "classes first" else 1] == classes
    assert int(done.stderr) < 200 << 10  # KiB, of which libraries take 100


@pytest.mark.skipif(sys.platform != "linux", reason="needs a system that takes advice on maps")
@pytest.mark.parametrize("shape", [(5000, 7), (7, 5000), (40, 30, 20), (100,)])
def test_scattered_rows(folder, monkeypatch, shape):
    """Copies have the array's elements in its order, whatever part of the pages may be resident."""
    monkeypatch.setattr(pages, "_AT_ONCE", 1 << 12)
    monkeypatch.setattr(pages, "_AROUND", 1 << 8)
    values = np.random.default_rng(0).normal(size=shape)
    picks = tuple(np.random.default_rng(1).integers(0, n, 50) for n in shape[:-1] or shape)
    for order in (tuple(range(len(shape))), tuple(range(len(shape)))[::-1], (1, 2, 0)[: len(shape)]):
        if sorted(order) != list(range(len(shape))):
            continue
        np.save("x.npy", values.transpose(order))
        x = open_array("x.npy").array.transpose(np.argsort(order))
        assert x.shape == shape
        for part in (x, x[3:], x[..., 2:9], x[::-1], x[::2]):
            np.testing.assert_array_equal(pages.collected(part), np.array(part))
        np.testing.assert_array_equal(pages.picked(x, picks), values[picks])


@pytest.mark.skipif(sys.platform != "linux", reason="needs a system that takes advice on maps")
def test_a_file_that_is_cut_off_while_it_is_read(folder):
    """It is an error; looking beyond its end would kill the process."""
    np.save("x.npy", np.zeros((1 << 14, 64)))
    np.save("y.npy", np.zeros(1 << 14, int))
    code = """
        import os, sys
        from fastloss import functional
        from fastloss.cli import main

        def cut(*arguments, real=functional.score, calls=[], **options):
            calls.append(0)
            if len(calls) == 3:
                os.truncate("x.npy", 1 << 20)
            return real(*arguments, **options)

        functional.score = cut
        sys.exit(main(["eval", "x.npy", "y.npy", "--chunk-size", "1000"]))
    """
    done = run_python(code, PYTHONPATH=str(Path(fastloss.__file__).parents[1]))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fastloss: error: x.npy: can no longer be read: it may have been cut off\n"


def test_pieces_are_read_once_and_in_any_cut():
    asked = []
    whole = np.arange(60).reshape(20, 3)
    starts = [0, 4, 4, 9, 20]

    def piece(i):
        asked.append(i)
        return whole[starts[i] : starts[i + 1]]

    stored = Stored((20, 3), whole.dtype, starts, piece)
    assert (stored.ndim, stored.size, stored.nbytes) == (2, 60, 480)
    for step in range(1, 21):
        asked.clear()
        parts = [stored[start : start + step] for start in range(0, 20, step)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        assert asked == [0, 2, 3]  # the second holds nothing
    np.testing.assert_array_equal(stored[3:12, 1:], whole[3:12, 1:])
    column = Stored((20, 1), whole.dtype, starts, lambda i: piece(i)[:, :1])
    np.testing.assert_array_equal(column.without_last()[5:12], whole[5:12, 0])
    assert stored[7:7].shape == (0, 3)


def test_names():
    assert split("a.parquet:x:y") == ("a.parquet", "x:y")
    assert split("a.npy:x") == ("a.npy:x", None)
    assert split("d/part*.zarr:run/x") == ("d/part*.zarr", "run/x")
    assert split("some*:x") == ("some*", "x")
    assert split("A.SafeTensors:k") == ("A.SafeTensors", "k")


def test_encoded_columns(evaluate, folder):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    x, y = data()
    np.save("x.npy", x)
    np.save("y.npy", y)
    expected = evaluate("x.npy", "y.npy")
    encoded = pa.table({"x": table(x, y)["x"], "y": pa.array(y).dictionary_encode()})
    feather.write_feather(encoded, "a.feather", chunksize=60)
    parquet.write_table(encoded, "a.parquet", row_group_size=70)
    for name in ("a.feather", "a.parquet"):
        assert evaluate(f"{name}:x", f"{name}:y") == expected


# llama.cpp's base logits.


@pytest.mark.parametrize(("n_ctx", "n_vocab"), [(10, 7), (9, 8), (2, 3), (3, 1), (1, 2)])
def test_base_logits(folder, monkeypatch, n_ctx, n_vocab):
    """Rows are the log-probabilities to within half a step of the 16 bits, and no more than 16 below the largest."""
    n_chunk, n_rows = 3, max(0, n_ctx - 1 - n_ctx // 2)
    rng = np.random.default_rng(44)
    logits = (rng.normal(size=(n_chunk, n_ctx, n_vocab)) * 3).astype("f4")
    logits[1, :, : n_vocab - 1] = -np.inf
    logits[2] = -1.25
    tokens = rng.integers(0, n_vocab, (n_chunk, n_ctx))
    names = write_llama_cpp("a", logits, tokens)
    rows = logits[:, n_ctx // 2 : n_ctx - 1].reshape(-1, n_vocab).astype(np.float64)
    expected = rows - np.logaddexp.reduce(rows, axis=1, keepdims=True, initial=-np.inf)
    expected = np.maximum(expected, expected.max(axis=1, keepdims=True, initial=-np.inf) - 16)
    for size in (1, 60, 1 << 20):
        monkeypatch.setattr("fastloss.cli.files.llama_cpp._BLOCK_BYTES", size)
        x, y = (open_array(name).array for name in names)
        assert (x.shape, x.dtype, y.shape, y.dtype) == ((3 * n_rows, n_vocab), "f4", (3 * n_rows,), "i4")
        np.testing.assert_allclose(x[:], expected, rtol=0, atol=1.3e-4)
        np.testing.assert_array_equal(x[2:5], x[:][2:5])
        np.testing.assert_array_equal(y, tokens[:, n_ctx // 2 + 1 :].ravel())
    assert open_array("a.kld:logits").array.shape == x.shape


def test_base_logits_are_compared(evaluate, folder, monkeypatch):
    """As the same rows in .npy files are, to the bit, in any pieces and under any name."""
    monkeypatch.setattr("fastloss.cli.files.llama_cpp._BLOCK_BYTES", 100)
    logits, tokens = base_logits(n_chunk=8)
    changed = logits + np.random.default_rng(45).normal(size=logits.shape) / 10
    for i in range(2):
        half = slice(4 * i, 4 * i + 4)
        write_llama_cpp(f"base-{i}", logits[half], tokens[half])
        write_llama_cpp(f"new-{i}", changed[half], tokens[half])
    (new, _), (base, targets) = write_llama_cpp("new", changed, tokens), write_llama_cpp("base", logits, tokens)
    for name in (new, base, targets):
        np.save(name.replace(".kld", "").replace(":", "-") + ".npy", open_array(name).array[:])
    options = ["--bootstrap", 50, "--top-k", 2, "--chunk-size", 3]
    expected = evaluate("new.npy", "base-targets.npy", "--against", "base.npy", *options)
    del expected["against"]["file"], expected["against"]["shape"]
    assert expected["rows_counted"] == 32 and 0 < expected["against"]["kl"]["mean"] < 0.1
    os.rename("base.kld", "base.bin")
    for names in (
        (new, "base-targets.npy", "--against", "base.bin"),
        ("new.npy", "base.bin:targets", "--against", "base.bin:logits"),
        ("new-?.kld", "base-?.kld:targets", "--against", "base-?.kld"),
    ):
        result = evaluate(*names, *options)
        del result["against"]["file"], result["against"]["shape"]
        assert result == expected


def test_base_logits_errors(error, folder):
    logits, tokens = base_logits()
    names = write_llama_cpp("x", logits, tokens)
    whole = Path("x.kld").read_bytes()
    sizes = f"n_ctx 10, n_vocab {CLASSES}, n_chunk 3 take {len(whole)} bytes, the file holds"
    for cut in (len(whole) - 1, 21, 20):
        Path("x.kld").write_bytes(whole[:cut])
        assert error(*names) == f"x.kld: truncated: {sizes} {cut}"
    for cut in (19, 8):
        Path("x.kld").write_bytes(whole[:cut])
        assert error(*names) == f"x.kld: truncated: the header takes 20 bytes, the file holds {cut}"
    Path("x.kld").write_bytes(whole + b"0")
    assert error(*names) == f"x.kld: damaged header: {sizes} {len(whole) + 1}"
    for at, value, what in (
        (8, 0, "n_ctx 0, n_vocab 7, n_chunk 3"),
        (8, -10, "n_ctx -10, n_vocab 7, n_chunk 3"),
        (12, 0, "n_ctx 10, n_vocab 0, n_chunk 3"),
        (16, -1, "n_ctx 10, n_vocab 7, n_chunk -1"),
    ):
        Path("x.kld").write_bytes(whole[:at] + struct.pack("<i", value) + whole[at + 4 :])
        assert error(*names) == f"x.kld: damaged header: {what}"
    for at in (8, 12, 16):
        Path("x.kld").write_bytes(whole[:at] + struct.pack("<i", 2**31 - 1) + whole[at + 4 :])
        assert error(*names).startswith("x.kld: truncated: n_ctx ")
    Path("x.kld").write_bytes(whole)
    assert error("x.kld:tokens", names[1]) == "x.kld:tokens: no such array in the file; it holds logits, targets"
    begin = 20 + 4 * tokens.size
    Path("x.kld").write_bytes(whole[:begin] + struct.pack("<f", np.nan) + whole[begin + 4 :])
    assert error(*names) == "x.kld: NaN at [0, 0]"
    Path("x.kld").write_bytes(whole[:20] + struct.pack("<i", CLASSES) * tokens.size + whole[begin:])
    assert error(*names) == "x.kld:targets: label 7 at [0] is out of range: there are 7 classes"
    Path("x.kld").write_bytes(whole[:16] + struct.pack("<i", 0))
    assert error(*names) == "x.kld: holds no data: its shape is (0, 7)"


# What is wrong is said in a line.


def test_safetensors_errors(error, folder):
    x, y = data()
    np.save("y.npy", y)

    def shown(header, body=b"", length=None):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        length = len(text) if length is None else length
        Path("x.safetensors").write_bytes(length.to_bytes(8, "little") + text + body)
        return error("x.safetensors", "y.npy")

    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    assert shown(b"{}") == "x.safetensors: holds no arrays"
    assert shown({"a": entry, "b": entry}) == (
        "x.safetensors: holds several arrays (a, b): name one as x.safetensors:a"
    )
    assert shown({"a": entry}, bytes(15)) == (
        "x.safetensors:a: truncated: the header speaks of 16 bytes of data, the file holds 15"
    )
    expected = "is not supported: floating-point numbers of 16 bits or more are expected"
    for kind, what in (("F8_E4M3", "float8"), ("F8_E5M2", "float8"), ("F8_E8M0", "float8"), ("F4", "float4")):
        assert shown({"a": entry | {"dtype": kind}}) == f"x.safetensors:a: dtype {kind}, a {what}, {expected}"
    message = "x.safetensors:a: dtype C64 is not supported: real numbers are expected"
    assert shown({"a": entry | {"dtype": "C64"}}) == message
    assert shown({"a": entry | {"shape": [5]}}, bytes(16)).startswith("x.safetensors:a: damaged .safetensors header")
    for bad in (
        {"a": entry | {"shape": [-4]}},
        {"a": entry | {"data_offsets": [16]}},
        {"a": entry | {"dtype": ["F32"]}},
        {"a": entry | {"dtype": None}},
        {"a": entry | {"shape": "4"}},
        {"a": entry | {"shape": [True, 4]}},
        {"a": entry | {"shape": [2.0, 2]}},
        {"a": entry | {"shape": [2**70]}},
        {"a": entry | {"data_offsets": [0, 16, 16]}},
        {"a": entry | {"data_offsets": [-16, 0]}},
        {"a": {}},
        {"a": 3},
        b"[]",
        b"{oops",
        b"[" * 100_000,
    ):
        assert "damaged .safetensors header" in shown(bad, bytes(16))
    for shape in ([0, 2**70], [0] + [1] * 70):
        assert shown({"a": entry | {"shape": shape, "data_offsets": [0, 0]}}).startswith(
            "x.safetensors: cannot be read"
        )
    assert shown({"a": entry}, length=10**12) == "x.safetensors: damaged .safetensors header"
    Path("x.safetensors").write_bytes(b"")
    assert error("x.safetensors", "y.npy") == "x.safetensors: the file is empty"


@pytest.mark.filterwarnings("ignore:The data type")
def test_zarr_errors(error, folder):
    zarr = pytest.importorskip("zarr")
    x, y = data()
    np.save("y.npy", y)
    zarr.save_group("g.zarr", a=x, b=x)
    assert error("g.zarr", "y.npy") == "g.zarr: holds several arrays (a, b): name one as g.zarr:a"
    assert error("g.zarr:c", "y.npy") == "g.zarr:c: no such array in the file; it holds a, b"
    zarr.save_array("t.zarr", np.array(["a", "b"]))
    assert "is not supported: real numbers are expected" in error("t.zarr", "y.npy")
    array = zarr.create_array("x.zarr", data=x, chunks=(100, CLASSES))
    chunks = sorted(Path("x.zarr").rglob("c/*/*"))
    chunks[2].write_bytes(b"not what it was")
    assert error("x.zarr", "y.npy").startswith("x.zarr: rows ")
    assert array.shape == x.shape
    for change in (
        {"shape": [2**70, 7]},
        {"shape": [2**62, 7]},
        {"shape": [-1, 7]},
        {"shape": "x"},
        {"data_type": "r8"},
    ):
        described = json.loads(Path("x.zarr/zarr.json").read_text())
        Path("x.zarr/zarr.json").write_text(json.dumps(described | change))
        assert error("x.zarr", "y.npy").startswith(("x.zarr: cannot be read", "y.npy: shape (500,) does not fit"))
        Path("x.zarr/zarr.json").write_text(json.dumps(described))
    described["chunk_grid"]["configuration"]["chunk_shape"] = [0, 0]
    Path("x.zarr/zarr.json").write_text(json.dumps(described))
    assert error("x.zarr", "y.npy").startswith("x.zarr: rows 0 to 0 cannot be read: ")
    Path("x.zarr/zarr.json").write_text("{oops")
    assert error("x.zarr", "y.npy").startswith("x.zarr: cannot be read as Zarr: ")


def test_arrow_errors(error, folder):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    x, y = data((50, 3))
    np.save("y.npy", y)
    write_parquet("a", x, y)
    assert error("a.parquet", "y.npy").startswith("a.parquet: holds several columns (x, y, text): name one as ")
    assert error("a.parquet:z", "y.npy") == "a.parquet:z: no such column in the file; it holds x, y, text"
    assert error("a.parquet:text", "y.npy").startswith("a.parquet:text: columns of string are not supported")
    feather.write_feather(pa.table({"v": [1.0, None], "w": [[1.0], [1.0, 2.0]]}), "f.feather")
    assert error("f.feather:v", "y.npy") == "f.feather:v: holds 1 nulls, which are no numbers"
    assert error("f.feather:w", "y.npy") == "f.feather:w: holds lists of different lengths, such as 1 and 2"
    pairs = pa.list_(pa.float32(), 2)
    for column, n in (
        (pa.array([[1.0, None], None, [2.0, 3.0]], pairs), 2),
        (pa.array([[[1.0, None]], [[None, 2.0]]], pa.list_(pairs, 1)), 2),
        (pa.DictionaryArray.from_arrays(pa.array([0, 1, 1, None]), pa.array([1.0, None])), 3),
        (pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (2,)), pa.array([[1, None]], pairs)), 1),
    ):
        feather.write_feather(pa.table({"v": column}), "f.feather")
        assert error("f.feather:v", "y.npy") == f"f.feather:v: holds {n} nulls, which are no numbers"
    lists = pa.table({"v": [[1.0], [2.0], [1.0, 2.0], [3.0, 4.0]]})
    parquet.write_table(lists, "l.parquet", row_group_size=2)
    np.save("y.npy", np.zeros(4, int))
    assert error("l.parquet", "y.npy", "--loss", "cross_entropy").startswith("l.parquet:v: rows 2 to 3 have the shape")
    whole = Path("a.parquet").read_bytes()
    Path("cut.parquet").write_bytes(whole[: len(whole) // 2])
    assert error("cut.parquet:x", "y.npy").startswith("cut.parquet:x: cannot be read: ")
    feather.write_feather(pa.table({"v": pa.array([], pa.float32())}), "none.feather")
    assert error("none.feather", "y.npy").startswith("none.feather:v: holds no data")


@pytest.mark.parametrize(
    ("package", "content", "name"),
    [("pyarrow", b"PAR1....", "x.parquet"), ("pyarrow", b"ARROW1....", "x.feather"), ("zarr", None, "x.zarr")],
)
def test_missing_packages(error, folder, monkeypatch, package, content, name):
    if content is None:
        os.mkdir(name)
        Path(name, "zarr.json").write_text("{}")
    else:
        Path(name).write_bytes(content)
    np.save("y.npy", np.zeros(3, int))
    monkeypatch.setitem(sys.modules, package, None)
    assert error(name, "y.npy").endswith(f"needs the package '{package}': pip install 'fastloss[files]'")


def test_nothing_is_imported_without_need(folder):
    x, y = data()
    np.save("x.npy", x)
    np.save("y.npy", y)
    code = (
        "import sys; from fastloss.cli import main; main(['eval', 'x.npy', 'y.npy']);"
        "unwanted = {'zarr', 'pyarrow', 'safetensors', 'distributed', 'dask', 'tqdm', 'matplotlib', 'ml_dtypes',"
        "'fastloss.cli.eval.show.page', 'fastloss.cli.eval.work.journal',"
        "'fastloss.cli.eval.stats.bootstrap', 'fastloss.cli.eval.stats.groups'};"
        "sys.exit(', '.join(unwanted & set(sys.modules)) or 0)"
    )
    path = str(Path(fastloss.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failure_can_be_sent(folder):
    import pickle

    failure = pickle.loads(pickle.dumps(Failure("a.npy", "is bad")))
    assert str(failure) == "a.npy: is bad"
