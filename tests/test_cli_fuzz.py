"""Damaged files: whatever is in them, the command line says what is wrong in one line, and soon, and in little memory.

Each example is a sound set of files, of every format and for every option that names one, with one of them damaged: bytes
changed, cut, repeated; numbers, strings and whole values of its header replaced by odd ones.

    pytest tests/test_cli_fuzz.py -m full                  # 2,000 examples
    FASTLOSS_FUZZ=100000 pytest tests/test_cli_fuzz.py     # many more, different each time
"""

import contextlib
import io
import json
import logging
import os
import re
import shutil
import signal
import struct
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from amounts import few_or_many
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastloss.cli import main
from fastloss.cli.files import formats, split

pytest.importorskip("pyarrow")
pytest.importorskip("zarr")
pytest.importorskip("safetensors")
ml_dtypes = pytest.importorskip("ml_dtypes")

MANY = int(os.environ.get("FASTLOSS_FUZZ", 0))
SECONDS, MEGABYTES = 10, 200

N, CLASSES = 24, 5
EVAL = ["eval", "--backend", "numpy"]


class Subject:
    """A command line that works, and which of its files is damaged (relative to the folder)."""

    def __init__(self, folder, arguments, damaged):
        self.folder, self.arguments, self.damaged = folder, arguments, damaged
        self.files = {}  # what all files hold while they are sound

    def __repr__(self):
        return f"{' '.join(self.arguments)}, {self.damaged} damaged"

    def restore(self):
        for path in self.folder.rglob("*"):
            if path.is_file() and str(path.relative_to(self.folder)) not in self.files:
                path.unlink()
        for name, data in self.files.items():
            path = self.folder / name
            if not path.exists() or path.read_bytes() != data:
                path.write_bytes(data)


# --- sound files ----------------------------------------------------------------------------------------------------


def arrays():
    rng = np.random.default_rng(60)
    return rng.normal(size=(N, CLASSES)).astype("f4"), rng.integers(0, CLASSES, N)


def write_npy(x, y):
    np.save("x.npy", x)
    np.save("y.npy", y)
    return "x.npy", "y.npy", "x.npy"


def write_npy_labels(x, y):
    return *write_npy(x, y)[:2], "y.npy"


def write_npy_2(x, y):
    write_npy(x, y)
    with open("x.npy", "wb") as file:
        np.lib.format.write_array(file, x, version=(2, 0))
    return "x.npy", "y.npy", "x.npy"


def write_npy_bfloat16(x, y):
    return write_npy(x.astype(ml_dtypes.bfloat16), y)


def write_npz(x, y):
    np.savez("a.npz", x=x, y=y)
    return "a.npz:x", "a.npz:y", "a.npz"


def write_npz_compressed(x, y):
    np.savez_compressed("a.npz", x=x, y=y)
    return "a.npz:x", "a.npz:y", "a.npz"


def write_safetensors(x, y):
    from safetensors.numpy import save_file

    save_file({"x": x, "y": y}, "a.safetensors")
    return "a.safetensors:x", "a.safetensors:y", "a.safetensors"


def write_zarr(x, y, damaged="x.zarr/zarr.json", **options):
    import zarr

    zarr.create_array("x.zarr", data=x, chunks=(10, 5), **options)
    np.save("y.npy", y)
    return "x.zarr", "y.npy", damaged


def write_zarr_chunk(x, y):
    return write_zarr(x, y, "x.zarr/c/1/0")


def write_zarr_2(x, y):
    return write_zarr(x, y, "x.zarr/.zarray", zarr_format=2)


def write_zarr_group(x, y):
    import zarr

    store = zarr.open_group("a.zarr", mode="w").store
    zarr.create_array(store, name="x", shape=x.shape, dtype=x.dtype, chunks=(5, 5), shards=(10, 5))[:] = x
    zarr.create_array(store, name="y", data=y)
    return "a.zarr:x", "a.zarr:y", "a.zarr/x/zarr.json"


def write_zarr_zip(x, y):
    import zarr

    with zarr.storage.ZipStore("a.zip", mode="w") as store:
        zarr.group(store)
        zarr.create_array(store, name="x", data=x, chunks=(7, 5))
        zarr.create_array(store, name="y", data=y)
    return "a.zip:x", "a.zip:y", "a.zip"


def table(x, y, lists=False):
    import pyarrow as pa

    scores = (
        pa.array(x.tolist(), pa.list_(pa.float32())) if lists else pa.FixedSizeListArray.from_arrays(x.ravel(), CLASSES)
    )
    return pa.table({"x": scores, "y": y})


def write_parquet(x, y):
    from pyarrow import parquet

    parquet.write_table(table(x, y), "a.parquet", row_group_size=7)
    return "a.parquet:x", "a.parquet:y", "a.parquet"


def write_feather(x, y, **options):
    from pyarrow import feather

    feather.write_feather(table(x, y, lists=True), "a.feather", chunksize=9, **options)
    return "a.feather:x", "a.feather:y", "a.feather"


def write_feather_plain(x, y):
    return write_feather(x, y, compression="uncompressed")


def write_stream(x, y):
    import pyarrow as pa

    with pa.OSFile("a.arrow", "wb") as file, pa.ipc.new_stream(file, table(x, y).schema) as writer:
        writer.write_table(table(x, y), max_chunksize=9)
    return "a.arrow:x", "a.arrow:y", "a.arrow"


def write_llama_cpp(x, y):
    tokens = np.zeros((N // 4, 10), "<i4")
    tokens[:, 6:] = y.reshape(-1, 4)
    rows = np.zeros(N, [("scale", "<f4"), ("least", "<f4"), ("codes", "<u2", CLASSES + CLASSES % 2)])
    rows["scale"], rows["least"] = 1e-4, -6
    rows["codes"][:, :CLASSES] = np.clip(x * 10_000 + 32_768, 0, 65_535)
    Path("x.kld").write_bytes(b"_logits_" + struct.pack("<3i", 10, CLASSES, N // 4) + tokens.tobytes() + rows.tobytes())
    return "x.kld", "x.kld:targets", "x.kld"


FORMATS = [value for name, value in globals().items() if name.startswith("write_")]


def test_every_format_is_damaged(tmp_path, monkeypatch):
    found = set()
    for write in FORMATS:
        folder = tmp_path / write.__name__
        folder.mkdir()
        monkeypatch.chdir(folder)
        path = split(write(*arrays())[0])[0]
        head = b"" if os.path.isdir(path) else Path(path).read_bytes()[:10]
        found.add(formats.format_of(path, head).module)
    missing = {format.module for format in formats.FORMATS} - found
    assert not missing, f"no write_... here for {sorted(missing)}: see CONTRIBUTING.md, A reader of files"


GROUPS = {
    "g.npy": lambda: np.save("g.npy", np.arange(N) % 3),
    "s.npy": lambda: np.save("s.npy", np.array(["de", "en"])[np.arange(N) % 2]),
    "g.txt": lambda: Path("g.txt").write_text("a\nb\n" * (N // 2)),
    "g.csv": lambda: Path("g.csv").write_text("id,group\n" + '1,"a"\n2,7\n' * (N // 2)),
    "g.tsv": lambda: Path("g.tsv").write_text("a\nb\n" * (N // 2)),
    "g.json": lambda: Path("g.json").write_text(json.dumps(["a", 2] * (N // 2))),
    "g.jsonl": lambda: Path("g.jsonl").write_text('"a"\n12\n' * (N // 2)),
}

MANIFESTS = {
    "m.jsonl": '{"predictions": "x0.npy", "targets": "y0.npy", "group": 1}\n'
    '{"predictions": "x1.npy", "targets": "y1.npy", "group": 2}\n',
    "m.csv": 'predictions,targets,group\nx0.npy,y0.npy,"a"\nx1.npy,y1.npy,b\n',
    "m.tsv": "x0.npy\ty0.npy\nx1.npy\ty1.npy\n",
}


def halves(x, y):
    for i in range(2):
        np.save(f"x{i}.npy", x[i::2])
        np.save(f"y{i}.npy", y[i::2])


def stopped(monkeypatch, arguments):
    """A run that ends after its first shard, and leaves a journal."""
    from fastloss.cli.eval.work import pieces

    real = pieces.run_piece

    def once(piece, *others):
        if piece.number == 1:
            raise KeyboardInterrupt
        return real(piece, *others)

    with monkeypatch.context() as patch:
        patch.setattr(pieces, "run_piece", once)
        assert main(arguments) == 130


def baseline():
    build = {"path": "nowhere", "digest": "0123456789abcdef", "version": "1"}
    Path("b.json").write_text(json.dumps({"format": 2, "build": build, "cases": []}))


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """All of them, each in a folder of its own."""
    root = tmp_path_factory.mktemp("fuzz")
    x, y = arrays()
    before, found = os.getcwd(), []
    monkeypatch = pytest.MonkeyPatch()

    @contextlib.contextmanager
    def new(name):
        folder = root / name
        folder.mkdir()
        os.chdir(folder)
        made = []
        with contextlib.redirect_stdout(io.StringIO()):
            yield lambda arguments, damaged: made.append(Subject(folder, arguments, damaged))
        for subject in made:
            paths = (path for path in folder.rglob("*") if path.is_file())
            subject.files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
            assert subject.damaged in subject.files
        found.extend(made)

    try:
        for write in FORMATS:
            with new(write.__name__) as add:
                *names, damaged = write(x, y)
                add([*EVAL, *names], damaged)
                add([*EVAL, *names, "--axis", "0", "--loss", "cross_entropy"], damaged)
        for name, write in GROUPS.items():
            with new(f"group-{name}") as add:
                write_npy(x, y)
                write()
                add([*EVAL, "x.npy", "y.npy", "--group-by", name], name)
        for name, text in MANIFESTS.items():
            with new(f"manifest-{name}") as add:
                halves(x, y)
                Path(name).write_text(text)
                add([*EVAL, "--manifest", name], name)
        for write in (write_npy, write_safetensors, write_zarr, write_parquet):
            with new(f"weight-{write.__name__}") as add:
                names = write(np.ones((CLASSES, CLASSES), "f4"), np.linspace(0.5, 2, CLASSES, dtype="f4"))
                np.save("u.npy", x)
                np.save("v.npy", y)
                weight = names[1] if ":" in names[1] or names[2] == "y.npy" else names[1]
                add(
                    [*EVAL, "u.npy", "v.npy", "--weight", weight],
                    names[2] if ":" in weight else "y.npy",
                )
        for damaged in ("l.npy.journal", ".l.npy.part"):
            with new(f"journal-{damaged}") as add:
                halves(x, y)
                options = ["--per-sample", "l.npy", "--group-by", "g.npy", "--bootstrap", "5", "--report", "r.html"]
                np.save("g.npy", np.arange(2))
                arguments = [*EVAL, "x?.npy", "y?.npy", *options, "--resume"]
                stopped(monkeypatch, arguments)
                add(arguments, damaged)
        with new("baseline") as add:
            baseline()
            add(["bench", "--against", "b.json", "--cases", "huber_f32_1e5"], "b.json")
        yield found
    finally:
        os.chdir(before)
        shutil.rmtree(root)


# --- damage -----------------------------------------------------------------------------------------------------------

ODD = [
    b"0", b"-1", b"1", b"3", b"24", b"4294967296", b"%d" % (1 << 40), b"%d" % (1 << 62), b"%d" % (1 << 70), b"9" * 5000,
    b"1e999", b"NaN", b"Infinity", b"2.5", b"true", b"True", b"null", b"[]", b"{}", b"()", b'""', b'"x"', b"[1]", b"'x'",
    b'"\\u0000"', b'"\\ud800"', b'"\\u2028"', b"\x00", b"\xff", b"\xe2\x80\xa8", b"\xc2\x85", b"[" * 100_000, b"(" * 300,
    b"a" * 140_000, b"0, " * 70, b"1, " * 70, b'"F8_E4M3"', b'"BF16"', b"'<f1'", b"'|V1'", b"'|O'", b"'<f2'", b'"float64"',
    b'"pickle"', b"\r", b"\n", b'"', b",", b":", b"../x", b"/dev/zero", b"/",
]  # fmt: skip

# Values of a header: numbers, strings, lists, names.
TOKENS = re.compile(
    rb"-?\d+(?:\.\d+)?|\"[^\"\n]{0,60}\"|'[^'\n]{0,60}'|\[[^\[\]\n]{0,60}\]|\([^()\n]{0,60}\)|true|false|null|True|False"
)

position = st.integers(0, 1 << 16)
odd = st.integers(0, len(ODD) - 1)  # not the values: some are long
damages = st.lists(
    st.one_of(
        st.tuples(st.just("token"), position, odd),
        st.tuples(st.just("token"), position, st.integers(-2, 300).map(lambda n: str(n))),
        st.tuples(st.just("byte"), position, st.integers(0, 255)),
        st.tuples(st.just("cut"), position, st.none()),
        st.tuples(st.just("drop"), position, st.integers(1, 40)),
        st.tuples(st.just("repeat"), position, st.integers(1, 40)),
        st.tuples(st.just("insert"), position, odd),
        st.tuples(st.just("zeros"), position, st.integers(1, 40)),
    ),
    min_size=1,
    max_size=3,
)


def damaged(data, kind, at, what):
    if kind in ("token", "insert"):
        what = what.encode() if isinstance(what, str) else ODD[what]
    if kind == "token":
        found = list(TOKENS.finditer(data[:4000])) + list(TOKENS.finditer(data[-4000:]))[-40:]
        if not found:
            return data
        match = found[at % len(found)]
        return data[: match.start()] + what + data[match.end() :]
    at %= len(data) + 1
    if kind == "byte":
        return data[:at] + bytes([what]) + data[at + 1 :]
    if kind == "cut":
        return data[:at]
    if kind == "drop":
        return data[:at] + data[at + what :]
    if kind == "repeat":
        return data[: at + what] + data[at:]
    if kind == "insert":
        return data[:at] + what + data[at:]
    return data[:at] + bytes(what) + data[at + what :]


def repaired(data, before):
    """What a format says of its own header's length is made right again, or nothing would look at the header."""
    if before[:6] == b"\x93NUMPY" and data[:6] == before[:6] and b"}" in data[:200_000]:
        size = 2 if before[6] == 1 else 4
        header, rest = data[8 + size :].split(b"}", 1)
        header = (header + b"}").ljust(117) + b"\n"
        if len(header) < 1 << 8 * size:
            return data[:8] + len(header).to_bytes(size, "little") + header + rest.lstrip(b" ").removeprefix(b"\n")
    if before[8:9] == b"{" and b"}}" in data:
        end = data.index(b"}}") + 2
        return (end - 8).to_bytes(8, "little") + data[8:end] + before[-before[::-1].index(b"}") :].lstrip(b" ")
    return data


def repacked(data, damages):
    """An archive whose members are damaged, not its directory."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        members = source.infolist()
        chosen = damages[0][1] % len(members)
        for i, info in enumerate(members):
            content = source.read(info)
            if i == chosen:
                before = content
                for damage in damages:
                    content = damaged(content, *damage)
                content = repaired(content, before)
            target.writestr(info.filename, content, info.compress_type)
    return out.getvalue()


# --- the test ---------------------------------------------------------------------------------------------------------


def resident(which):
    """VmRSS or VmHWM of this process, in MiB; 0 where there is no such thing."""
    try:
        return int(re.search(rf"{which}:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    except OSError:
        return 0.0


def reset_peak():
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@contextlib.contextmanager
def within(seconds):
    """Ends what hangs."""

    def ring(number, frame):
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Told(logging.Handler):
    """What libraries log, which without it would be printed."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []
        logging.getLogger().addHandler(self)

    def emit(self, record):
        self.messages.append(record.getMessage())


def run(arguments, logged):
    out, err = io.StringIO(), io.StringIO()
    with warnings.catch_warnings(record=True) as told, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        warnings.simplefilter("always")
        with within(SECONDS):
            code = main(arguments)
        told += logged.messages
    return code, out.getvalue(), err.getvalue(), list(map(str, told))


@pytest.fixture(scope="module")
def logged():
    handler = Told()
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="module", autouse=True)
def warm(subjects, logged):
    """Everything is imported and compiled, and sound files are read without a fault."""
    for subject in subjects:
        os.chdir(subject.folder)
        subject.restore()
        code, out, err, told = run(subject.arguments, logged)
        if "--axis" not in subject.arguments and "bench" not in subject.arguments:
            assert (code, err, told) == (0, "", []), (subject.arguments, err, told)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm clock")
@pytest.mark.filterwarnings("error")
@few_or_many("examples", MANY or 300, MANY or 2000)
def test_damaged_files(subjects, logged, examples):
    numbers = {"run": 0, "refused": 0}

    @settings(
        max_examples=examples,
        derandomize=not MANY,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(st.sampled_from(subjects), damages, st.booleans())
    def check(subject, damages, repair):
        os.chdir(subject.folder)
        subject.restore()
        data = before = subject.files[subject.damaged]
        if repair and before[:2] == b"PK":
            data = repacked(before, damages)
        else:
            for damage in damages:
                data = damaged(data, *damage)
            if repair:
                data = repaired(data, before)
        (subject.folder / subject.damaged).write_bytes(data)
        reset_peak()
        start = resident("VmRSS")
        code, out, err, told = run(subject.arguments, logged)
        peak = resident("VmHWM") - start
        numbers["run"] += 1
        numbers["refused"] += code == 2
        assert told == []
        if code == 0:
            assert err == ""
        else:
            assert (code, out) == (2, "")
            assert (
                err.startswith("fastloss: error: ") and err.count("\n") == 1 and err.endswith("\n") and len(err) < 2500
            )
        assert peak < MEGABYTES

    begin = time.perf_counter()
    check()
    print(f"{numbers['run']} examples, {numbers['refused']} refused, {time.perf_counter() - begin:.1f} s")
    assert numbers["run"] >= examples * 0.9 and numbers["refused"] > examples / 2
