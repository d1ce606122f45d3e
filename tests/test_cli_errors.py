"""The command line on bad input: one line that names the file and the problem, exit code 2, no traceback."""

import errno
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from subprocesses import run_python

import fastloss
from fastloss import functional
from fastloss.cli import commands, main

DATA = Path(__file__).parent / "data"
LOGITS, LABELS = str(DATA / "digits_logits.npy"), str(DATA / "digits_labels.npy")
PATH = str(Path(fastloss.__file__).parents[1])
MULTIARRAY = f"numpy.{'core' if np.lib.NumpyVersion(np.__version__) < '2.0.0' else '_core'}.multiarray"
PROBS, BINARY = str(DATA / "cancer_probs.npy"), str(DATA / "cancer_labels.npy")


@pytest.fixture
def error(capsys):
    """Run the command line, which must fail, and return its message without `fastloss: error: `."""

    def run(*arguments):
        code = main(list(map(str, arguments)))
        captured = capsys.readouterr()
        assert (code, captured.out) == (2, "")
        assert captured.err.startswith("fastloss: error: ") and captured.err.endswith("\n")
        assert captured.err.count("\n") == 1, captured.err
        return captured.err[17:-1]

    return run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current directory, so that files go by short names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def header(descr="<f4", shape="(3, 2)", version=b"\x01\x00"):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text


# Files that are no arrays.


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"1,2,3\n", "not a .npy or .npz file"),
        (pickle.dumps(np.ones(3)), "a Python pickle, which is never loaded; save the array with np.save"),
        (header()[:40], "damaged .npy header: EOF"),
        (header() + bytes(20), "truncated: (3, 2) of float32 takes 24 bytes of data, the file holds 20"),
        (header(shape="(-3, 2)") + bytes(24), "damaged .npy header: shape (-3, 2)"),
        (header(shape="(3, 2") + bytes(24), "damaged .npy header: "),
        (header(shape="('a',)") + bytes(24), "damaged .npy header: "),
        (header(shape="(99999999999999, 99999999999999)") + bytes(24), "truncated: "),
        (header(shape="(0, 1180591620717411303424)"), "cannot be read: "),
        (header(shape="(0,) + (1,) * 70"), "damaged .npy header: "),
        (header(shape=str((0,) + (1,) * 70)), "cannot be read: maximum supported dimension"),
        (header(shape="(True, 2)") + bytes(24), "damaged .npy header: shape (True, 2)"),
        (header(shape="(2.0,)") + bytes(24), "damaged .npy header: "),
        (header(shape="(" * 100), "damaged .npy header: "),
        (header(descr="nonsense") + bytes(24), "damaged .npy header: "),
        (header(version=b"\x04\x00") + bytes(24), "version 4.0 of the .npy format is not supported"),
        (
            header(descr="|O", shape="(3,)") + pickle.dumps([1]),
            "holds pickled Python objects, which are never loaded",
        ),
        (
            header(descr="<U3", shape="(3,)") + bytes(36),
            "dtype <U3 is not supported: real numbers are expected",
        ),
        (
            header(descr="<c8", shape="(3,)") + bytes(24),
            "dtype complex64 is not supported: real numbers are expected",
        ),
        (header(descr="<M8[s]", shape="(3,)") + bytes(24), "dtype datetime64[s] is not supported"),
        (header(descr="|V1", shape="(3,)") + bytes(3), "dtype |V1 may be float8, or another type of ml_dtypes"),
        (header(descr="|f1", shape="(3,)") + bytes(3), "dtype float8_e5m2 is not supported: floating-point numbers of"),
        (header(shape="(0, 2)"), "holds no data: its shape is (0, 2)"),
        (b"PK\x03\x04 and so on", "cannot be read as .npz: File is not a zip file"),
    ],
)
def test_files_that_are_no_arrays(error, folder, content, problem):
    (folder / "bad.npy").write_bytes(content)
    assert error("eval", "bad.npy", LABELS).startswith(f"bad.npy: {problem}")
    assert error("eval", LOGITS, "bad.npy").startswith(f"bad.npy: {problem}")


def test_a_pickle_in_a_file_does_not_run(error, folder):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(folder / "exploded"),)

    (folder / "a.npy").write_bytes(pickle.dumps(Bomb()))
    np.save(folder / "b.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.savez(folder / "c.npz", np.array([Bomb()], dtype=object), allow_pickle=True)
    for name in ("a.npy", "b.npy", "c.npz:arr_0"):
        error("eval", name, LABELS)
    assert not (folder / "exploded").exists()


def test_paths(error, folder):
    assert error("eval", "missing.npy", LABELS) == "missing.npy: no such file or directory"
    assert error("eval", LOGITS, "missing.npy") == "missing.npy: no such file or directory"
    assert error("eval", LOGITS, "") == "'': no such file or directory"  # a shell's variable that is not set
    assert error("eval", LOGITS, LABELS, "--weight", "missing.npy") == "missing.npy: no such file or directory"
    assert error("eval", ".", LABELS).startswith(".: the directory holds no arrays (.npy, .npz, ")
    assert error("eval", "two\nlines\x1b.npy", LABELS) == "two\\nlines\\x1b.npy: no such file or directory"
    assert error("eval", f"{LOGITS}:x", LABELS).endswith(":x: a .npy file, which has no members")
    os.mkfifo(folder / "pipe.npy")
    assert error("eval", "pipe.npy", LABELS) == "pipe.npy: not a regular file"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read anything")
def test_unreadable(error, folder):
    np.save("secret.npy", np.ones(3))
    os.chmod("secret.npy", 0)
    assert error("eval", "secret.npy", LABELS) == "secret.npy: permission denied"


def test_archives(error, folder):
    x = np.load(LOGITS)
    np.savez("a.npz", x=x, y=np.load(LABELS))
    np.savez_compressed("c.npz", x=x)
    np.savez("none.npz")
    np.save("plain.npy", x)
    os.rename("plain.npy", "plain.npz")
    assert error("eval", "a.npz", LABELS) == "a.npz: holds several arrays (x, y): name one as a.npz:x"
    assert error("eval", "a.npz:z", LABELS) == "a.npz:z: no such array in the archive; it holds x, y"
    assert error("eval", "none.npz", LABELS) == "none.npz: the archive is empty"
    assert error("eval", "plain.npz:x", LABELS) == "plain.npz:x: a .npy file, which has no members"
    whole = Path("c.npz").read_bytes()
    Path("cut.npz").write_bytes(whole[: len(whole) // 2])
    assert error("eval", "cut.npz", LABELS) == "cut.npz: cannot be read as .npz: File is not a zip file"
    Path("bent.npz").write_bytes(whole[:5000] + bytes(50) + whole[5050:])
    assert error("eval", "bent.npz", LABELS).startswith("bent.npz:x: cannot be read from the .npz: ")
    for name, compression in (("stored.npz", zipfile.ZIP_STORED), ("packed.npz", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(name, "w", compression) as archive:
            archive.writestr("x.npy", header() + bytes(20))
            archive.writestr("t.txt", "hello")
        assert error("eval", f"{name}:x", LABELS) == (
            f"{name}:x: truncated: (3, 2) of float32 takes 24 bytes of data, the file holds 20"
        )
        assert error("eval", f"{name}:t.txt", LABELS).startswith(f"{name}:t.txt: damaged .npy header: ")


# Arrays that do not fit each other or the loss.


@pytest.mark.parametrize(
    ("x", "y", "options", "problem"),
    [
        (
            (6, 3),
            (5,),
            [],
            "y.npy: shape (5,) does not fit predictions of shape (6, 3); expected (6,) for class labels",
        ),
        (
            (6, 3),
            (6, 1),
            [],
            "y.npy: shape (6, 1) does not fit predictions of shape (6, 3); expected (6,) for class",
        ),
        ((6,), (5,), [], "y.npy: shape (5,) does not fit predictions of shape (6,); expected (6,)"),
        ((6,), (5,), ["--loss", "mse_loss"], "y.npy: shape (5,) does not fit predictions of shape (6,)"),
        ((6, 3), (6,), ["--loss", "l1_loss"], "y.npy: shape (6,) does not fit predictions of shape (6, 3)"),
        (
            (6, 3),
            (6,),
            ["--axis", "0"],
            "y.npy: shape (6,) does not fit predictions of shape (6, 3); expected (3,)",
        ),
        ((6, 3), (6,), ["--axis", "2"], "--axis: 2 is out of range for predictions of shape (6, 3)"),
        ((6, 3), (6,), ["--axis", "-3"], "--axis: -3 is out of range for predictions of shape (6, 3)"),
        (
            (),
            (),
            ["--loss", "cross_entropy"],
            "x.npy: cross_entropy needs an axis of classes, the shape is ()",
        ),
        ((6, 3), (6, 3), ["--loss", "mse_loss", "--axis", "1"], "--axis: only 0 is possible for mse_loss"),
    ],
)
def test_shapes(error, folder, x, y, options, problem):
    np.save("x.npy", np.full(x, 2.0))
    np.save("y.npy", np.ones(y, int))
    assert error("eval", "x.npy", "y.npy", *options).startswith(problem)


def test_labels_must_be_integers(error, folder):
    np.save("y.npy", np.load(LABELS).astype(float))
    for options in [], ["--loss", "cross_entropy"], ["--loss", "nll_loss"]:
        assert error("eval", LOGITS, "y.npy", *options) == "y.npy: class labels must be integers, not float64"


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize(
    ("dtype", "label", "options"),
    [("i8", 10, []), ("i2", -1, []), ("u1", 156, []), ("i8", -100, ["--ignore-index", 3])],
)
def test_a_label_out_of_range_is_placed_in_the_whole_file(error, folder, chunk, dtype, label, options):
    y = np.load(LABELS).astype(dtype)
    y[[333, 400]] = label
    np.save("y.npy", y)
    message = error("eval", LOGITS, "y.npy", "--chunk-size", chunk, *options)
    assert message.startswith(f"y.npy: label {label} at [333] is out of range: there are 10 classes")
    assert message.endswith(f"; --ignore-index {label} leaves such rows out" if label < 0 else "10 classes")


def test_places_in_many_dimensions(error, folder):
    x, y = np.zeros((4, 5, 6, 3)), np.zeros((4, 6, 3), int)
    y[2, 4, 1] = 5
    np.save("y.npy", y)
    for order in "CF":
        np.save("x.npy", np.asarray(x, order=order))
        message = error("eval", "x.npy", "y.npy", "--chunk-size", 2, "--loss", "cross_entropy")
        assert message == "y.npy: label 5 at [2, 4, 1] is out of range: there are 5 classes"
    np.save("y.npy", np.zeros_like(y))
    x[3, 2, 1, 0] = np.nan
    for order in "CF":
        np.save("x.npy", np.asarray(x, order=order))
        assert error("eval", "x.npy", "y.npy", "--chunk-size", 2) == "x.npy: NaN at [3, 2, 1, 0]"
    np.save("x.npy", np.moveaxis(x, 1, 0))
    assert error("eval", "x.npy", "y.npy", "--axis", 0, "--chunk-size", 2) == "x.npy: NaN at [2, 3, 1, 0]"


# Values.


@pytest.mark.parametrize("chunk", [1, 100, 1000])
def test_nan(error, folder, chunk):
    x, y = np.load(PROBS), np.load(BINARY).astype(float)
    np.save("good.npy", x)
    x[123] = np.nan
    y[77] = np.nan
    np.save("x.npy", x)
    np.save("y.npy", y)
    for loss in (
        "mse_loss",
        "l1_loss",
        "huber_loss",
        "binary_cross_entropy_with_logits",
        "binary_cross_entropy",
    ):
        options = ["--loss", loss, "--chunk-size", chunk]
        assert error("eval", "x.npy", BINARY, *options) == "x.npy: NaN at [123]"
        assert error("eval", "good.npy", "y.npy", *options) == "y.npy: NaN at [77]"
        assert error("eval", "good.npy", BINARY, "--weight", "x.npy", *options) == "x.npy: NaN at [123]"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("backend", ["auto", "numpy"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_nan_warns_of_nothing(error, folder, dtype, backend):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    rng = np.random.default_rng(3)
    x, p, y = rng.normal(size=(60, 4)), rng.random(240), rng.integers(0, 4, 60)
    np.save("good.npy", p.astype(dtype))
    x[4], p[17] = np.nan, np.nan
    np.save("x.npy", x.astype(dtype))
    np.save("p.npy", p.astype(dtype))
    np.save("y.npy", y)
    np.save("t.npy", (rng.random(240) > 0.5).astype(dtype))
    options = ["--report", "r.html", "--backend", backend]
    for loss in ("cross_entropy", "nll_loss"):
        assert error("eval", "x.npy", "y.npy", "--loss", loss, "--top-k", 2, *options) == "x.npy: NaN at [4, 0]"
    for loss in ("binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "huber_loss", "msle_loss"):
        options += ["--bootstrap", 5]
        assert error("eval", "p.npy", "t.npy", "--loss", loss, *options) == "p.npy: NaN at [17]"
        assert error("eval", "good.npy", "p.npy", "--loss", loss, *options) == "p.npy: NaN at [17]"
    p[200] = 1.5
    np.save("p.npy", p.astype(dtype))
    message = error("eval", "good.npy", "p.npy", "--loss", "binary_cross_entropy", *options)
    assert message == "p.npy: 1.5 at [200] is no probability in [0, 1], as binary_cross_entropy takes"


@pytest.mark.filterwarnings("error")
def test_nan_that_signals_warns_of_nothing(error, folder):
    x = np.load(LOGITS).astype("f4")
    x.view("u4")[3, 2] = 0x7F800001  # NumPy warns where it converts this one
    np.save("x.npy", x)
    np.save("z.npy", x)
    assert error("eval", "x.npy", LABELS) == "x.npy: NaN at [3, 2]"
    assert error("eval", "x.npy", "z.npy", "--report", "r.html") == "x.npy: NaN at [3, 2]"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_are_refused(error, folder):
    """Wherever a file is named: opening one would wait for somebody to write."""
    for name in ("pipe.npy", "pipe.json", "pipe.csv", "pipe"):
        os.mkfifo(name)
        for arguments in (
            ["eval", name, LABELS],
            ["eval", LOGITS, name],
            ["eval", "--manifest", name],
            ["eval", LOGITS, LABELS, "--group-by", name],
            ["eval", LOGITS, LABELS, "--weight", name],
            *(
                [["bench", "--against", name]] if name.endswith(".json") else []
            ),  # what else names no build is a revision
        ):
            assert error(*arguments) == f"{name}: not a regular file"
        journal = error("eval", LOGITS, LABELS, "--journal", name, "--resume")
        assert journal == f"{name}: the journal cannot be used: not a regular file"


def test_nan_in_class_weights_and_distributions(error, folder):
    weights = np.ones(10)
    weights[4] = np.nan
    np.save("w.npy", weights)
    assert error("eval", LOGITS, LABELS, "--weight", "w.npy") == "w.npy: NaN at [4]"
    probs = np.full((540, 10), 0.1)
    probs[200, 3] = np.nan
    np.save("y.npy", probs)
    assert error("eval", LOGITS, "y.npy", "--loss", "cross_entropy", "--chunk-size", 64) == "y.npy: NaN at [200, 3]"


def test_rows_without_a_loss(error, folder):
    x = np.load(LOGITS)
    x[100, 3] = np.inf
    np.save("x.npy", x)
    assert error("eval", "x.npy", LABELS) == "x.npy: cross_entropy at [100] is undefined: its logits hold +inf"
    x[100] = -np.inf
    np.save("x.npy", x)
    assert error("eval", "x.npy", LABELS) == "x.npy: cross_entropy at [100] is undefined: its logits are all -inf"
    np.save("a.npy", np.array([1.0, 2, np.inf]))
    message = error("eval", "a.npy", "a.npy", "--loss", "mse_loss")
    assert message == "a.npy: mse_loss at [2] is undefined for prediction inf and target inf"


def test_probabilities_outside_the_unit_interval(error, folder):
    x = np.load(PROBS)
    x[150] = 1.5
    np.save("x.npy", x)
    message = error("eval", "x.npy", BINARY, "--loss", "binary_cross_entropy", "--chunk-size", 20)
    assert message == "x.npy: 1.5 at [150] is no probability in [0, 1], as binary_cross_entropy takes"
    for loss in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        message = error("eval", PROBS, "x.npy", "--loss", loss, "--chunk-size", 20)
        assert message == f"x.npy: 1.5 at [150] is no probability in [0, 1], as {loss} takes"
    message = error("eval", LOGITS, LABELS, "--loss", "categorical_cross_entropy", "--chunk-size", 20)
    assert message.startswith(f"{LOGITS}: -") and message.endswith(
        "is no probability in [0, 1], as categorical_cross_entropy takes"
    )


def test_a_wrong_guess_says_that_it_was_one(error, folder):
    x = np.full(1 << 20, 0.5)
    x[300_001] = 1.5
    np.save("x.npy", x)
    np.save("y.npy", np.arange(1 << 20) % 2)
    message = error("eval", "x.npy", "y.npy")
    assert message.startswith("x.npy: 1.5 at [300001] is no probability in [0, 1], as binary_cross_entropy takes")
    assert message.endswith(", which was guessed: --loss overrides")


def test_weights_that_do_not_fit(error, folder):
    np.save("w.npy", np.ones(7))
    assert error("eval", LOGITS, LABELS, "--weight", "w.npy") == "w.npy: class weights have shape (10,), not (7,)"
    message = error("eval", PROBS, BINARY, "--weight", "w.npy")
    assert message == "w.npy: weights of shape (7,) do not fit; expected (171,)"
    np.save("x.npy", np.ones((5, 2)))
    message = error("eval", "x.npy", "x.npy", "--weight", "w.npy", "--loss", "mse_loss")
    assert message == "w.npy: weights of shape (7,) do not fit; expected (5, 2) or (5,)"


# Options.


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--loss", "mse"], "--loss: unknown loss 'mse'; did you mean mse_loss?"),
        (["--loss", "crossentropy"], "--loss: unknown loss 'crossentropy'; did you mean cross_entropy?"),
        (["--loss", "zzz"], "--loss: unknown loss 'zzz'; known are cross_entropy, focal_loss, "),
        (
            ["--loss", "gaussian_nll_loss"],
            "--loss: gaussian_nll_loss takes pred, target, var, where this command reads predictions and targets alone",
        ),
        (["--backend", "abacus"], "--backend: "),
        (["--reduction", "none"], "--reduction none: needs --output FILE"),
        (["--reduction", "max"], "argument --reduction: invalid choice: 'max'"),
        (["--chunk-size", "0"], "argument --chunk-size: must be at least 1, not 0"),
        (["--chunk-size", "x"], "argument --chunk-size: invalid whole number value: 'x'"),
        (["--threads", "0"], "argument --threads: must be at least 1, not 0"),
        (["--bootstrap", str(10**30)], f"argument --bootstrap: must lie in [1, 1000000], not {10**30}"),
        (["--bootstrap", "0"], "argument --bootstrap: must lie in [1, 1000000], not 0"),
        (["--top-k", str(10**30)], f"argument --top-k: must be below 2**63, not {10**30}"),
        (["--chunk-size", "9" * 5000], "argument --chunk-size: invalid whole number value: '9999"),
        (["--axis", str(10**30)], f"--axis: {10**30} is out of range for predictions of shape (540, 10)"),
        (["--top-k", str(10**18)], f"--top-k: {10**18} of 10 classes"),
        (["--label-smoothing", "1.5"], "argument --label-smoothing: must lie in [0, 1], not 1.5"),
        (["--label-smoothing", "nan"], "argument --label-smoothing: must lie in [0, 1], not nan"),
        (["--axis", "x"], "argument --axis: invalid int value: 'x'"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (
            ["--loss", "nll_loss", "--label-smoothing", "0.1"],
            "--label-smoothing: nll_loss has no label smoothing",
        ),
    ],
)
def test_options(error, options, problem):
    assert error("eval", LOGITS, LABELS, *options).startswith(problem)


def test_settings(error, monkeypatch):
    message = error("eval", LOGITS, LABELS, "--backend", "abacus")
    assert message.startswith("--backend: expected one of ") and message.endswith(", got 'abacus'")
    message = error("eval", LOGITS, LABELS, "--threads", 10**6)
    assert message.startswith("--threads: expected an integer in [1, ")


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("FASTLOSS_BACKEND", "one of 'auto', 'cython', 'numba', 'numpy', 'cuda'"),
        ("FASTLOSS_NUM_THREADS", "an integer in [1, 1024]"),
    ],
)
def test_a_bad_environment(variable, expected):
    done = subprocess.run(
        [sys.executable, "-m", "fastloss", "eval", LOGITS, LABELS],
        env={**os.environ, variable: "abacus"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"fastloss: error: environment variable {variable}: expected {expected}, got 'abacus'\n"


def test_options_the_loss_does_not_heed(error):
    bce, mse = ["--loss", "binary_cross_entropy"], ["--loss", "mse_loss"]
    assert error("eval", PROBS, BINARY, *mse, "--label-smoothing", 0).startswith("--label-smoothing: mse_loss has no")
    assert error("eval", PROBS, BINARY, *bce, "--ignore-index", 1).startswith(
        "--ignore-index: binary_cross_entropy has no"
    )
    assert error("eval", PROBS, BINARY, *bce, "--axis", 0).startswith("--axis: binary_cross_entropy is taken element")
    none = ["--reduction", "none", "--output", "never-written.npy"]
    assert error("eval", PROBS, BINARY, "--loss", "rmse_loss", *none).startswith("--reduction none: rmse_loss has no")
    assert error("eval", PROBS, BINARY, *mse, "--axis", 0, *none).startswith("--reduction none: cannot be combined")
    assert not Path("never-written.npy").exists()


def test_usage(error):
    assert error() == "the following arguments are required: COMMAND (see fastloss --help)"
    assert error("evil").startswith("argument COMMAND: invalid choice: 'evil'")
    assert error("eval", "x") == "the following arguments are required: TARGETS (see fastloss eval --help)"


# Output.


def test_outputs_that_cannot_be_written(error, folder):
    for options in [], ["--reduction", "none"]:
        message = error("eval", LOGITS, LABELS, *options, "--output", "nowhere/out")
        assert message == "nowhere/out: cannot be written: no such file or directory"
        assert error("eval", LOGITS, LABELS, *options, "--output", ".") == ".: cannot be written: is a directory"
    np.save("x.npy", np.load(LOGITS))
    for alias in ("x.npy", "./x.npy"):
        message = error("eval", "x.npy", LABELS, "--output", alias)
        assert message == f"{alias}: is also an input; it would be overwritten"
    assert os.listdir() == ["x.npy"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(error):
    for options in [], ["--reduction", "none"]:
        message = error("eval", LOGITS, LABELS, *options, "--output", "/dev/full")
        assert message == "/dev/full: cannot be written: no space left on device"


def test_a_failed_run_leaves_the_old_output(error, folder):
    y = np.load(LABELS)
    y[-1] = 99
    np.save("y.npy", y)
    Path("out.npy").write_text("old")
    error("eval", LOGITS, "y.npy", "--reduction", "none", "--output", "out.npy", "--chunk-size", 10)
    assert Path("out.npy").read_text() == "old"
    assert sorted(os.listdir()) == ["out.npy", "y.npy"]


def test_interrupt(folder, monkeypatch, capsys):
    calls = []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    real = functional.score
    monkeypatch.setattr(functional, "score", interrupted)
    options = ["--reduction", "none", "--output", "out.npy", "--chunk-size", "10"]
    assert main(["eval", LOGITS, LABELS, *options]) == 130
    assert capsys.readouterr() == ("", "")
    assert os.listdir() == []


@pytest.mark.parametrize(
    "module",
    ["argparse", "fastloss.cli.failure", "fastloss.cli.eval", "fastloss.cli.eval.run", "numpy", MULTIARRAY,
     "fastloss.functional", "fastloss.cli.eval.plan.survey"],
)  # fmt: skip
def test_an_interrupt_during_start_up(module):
    """Ctrl-C as this module is imported: some libraries make other errors of it."""
    code = f"""
        import os, runpy, signal, sys

        class Hasty:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}:
                    os.kill(os.getpid(), signal.SIGINT)

        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.modules.pop("argparse", None)
        sys.meta_path.insert(0, Hasty())
        sys.argv = ["fastloss", "eval", {LOGITS!r}, {LABELS!r}]
        runpy.run_module("fastloss", run_name="__main__")
    """
    done = run_python(code, PYTHONPATH=PATH)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_out_of_memory_is_one_line(error, monkeypatch):
    def exhausted(*arguments, **options):
        raise MemoryError("Unable to allocate 3 GiB")

    monkeypatch.setattr(functional, "score", exhausted)
    assert error("eval", LOGITS, LABELS) == "out of memory: Unable to allocate 3 GiB"


BENCH = ["bench", "--cases", "mse_f32_10", "--contenders", "numpy", "--seconds", "0.1"]
PRINTING = [
    ["eval", LOGITS, LABELS],
    ["eval", LOGITS, LABELS, "--json"],
    ["eval", LOGITS, LABELS, "--output", "out.json"],
    ["eval", "--help"],
    ["bench", "--list"],
    BENCH,
    [*BENCH, "--json", "--output", "out.json"],
    ["info"],
    ["info", "--json"],
    ["--help"],
    ["--version"],
]


def test_every_command_is_among_them():
    assert set(commands.COMMANDS) <= {arguments[0] for arguments in PRINTING}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", PRINTING, ids=lambda arguments: " ".join(map(os.path.basename, arguments)))
def test_a_stdout_that_cannot_be_written(folder, arguments):
    def run(redirection):
        command = f'exec "$@" {redirection}'
        return subprocess.run(
            ["sh", "-c", command, "sh", sys.executable, "-m", "fastloss", *arguments],
            capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": PATH},
        )  # fmt: skip

    done = run(">&-")
    assert (done.returncode, done.stderr) == (74, "fastloss: error: standard output is closed\n")
    assert os.listdir() == []  # no work was done in vain
    done = run(">/dev/full")
    expected = "fastloss: error: standard output cannot be written: no space left on device\n"
    assert (done.returncode, done.stderr) == (74, expected)
    assert os.listdir() == []


@pytest.mark.parametrize("command", [["eval", LOGITS, LABELS], BENCH], ids=["eval", "bench"])
def test_what_can_be_kept_is_kept(folder, monkeypatch, capsys, command):
    class Full(io.StringIO):
        def write(self, text):
            if text:
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert main([*command, "--json", "--output", "out.json"]) == 74
    assert json.loads(Path("out.json").read_text())
    assert "standard output cannot be written: no space left" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_stderr_that_cannot_be_written(folder):
    """The code tells, and nothing else is printed in its place."""
    for redirection in ("2>&-", "2>/dev/full"):
        for arguments, code in ((["eval", "none.npy", LABELS], 2), (["eval", LOGITS, LABELS, "--json"], 0)):
            command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "fastloss", *arguments]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, timeout=300, env={**os.environ, "PYTHONPATH": PATH}
            )
            assert done.returncode == code and done.stdout.count("\n") == (code == 0)


def test_a_name_stdout_cannot_spell(folder, monkeypatch, capsys):
    name = "größe\udcff.npy"
    try:
        np.save(name, np.load(LOGITS))
    except OSError:
        pytest.skip("the file system refuses such names")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["eval", name, LABELS]) == 0
    assert b"gr\\xf6\\xdfe\\udcff.npy" in out.buffer.getvalue()
