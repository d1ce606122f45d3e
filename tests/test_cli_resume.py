"""A run that is stopped goes on from its journal: nothing twice, nothing lost, the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastloss
from fastloss import functional
from fastloss.cli import main
from fastloss.cli.eval.stats.state import Measures, State
from fastloss.cli.eval.stats.sums import Place, Rows
from fastloss.cli.eval.work.journal import Journal

N_SHARDS = 50
TIMES = {"seconds", "rows_per_second", "gigabytes_per_second", "pieces_resumed"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(30)
    for name in "xy":
        (tmp_path / name).mkdir()
    for i in range(N_SHARDS):
        np.save(f"x/{i}.npy", rng.normal(size=(400 + i, 6)).astype("f4"))
        np.save(f"y/{i}.npy", rng.integers(0, 6, 400 + i))
    np.save("g.npy", np.arange(N_SHARDS) % 3)
    return tmp_path


OPTIONS = ["x", "y", "--group-by", "g.npy", "--bootstrap", "500", "--report", "page.html", "--per-sample", "each.npy"]


def run(*options, code=0):
    process = start(*options)
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    return json.loads(out) if code == 0 else err


def start(*options):
    return subprocess.Popen(
        [sys.executable, "-m", "fastloss", "eval", *map(str, options), "--json"],
        env={**os.environ, "PYTHONPATH": str(Path(fastloss.__file__).parents[1])},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a shell's background jobs, these tests perhaps, ignore Ctrl-C, and so would what they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def same(result, undisturbed):
    return all(result[key] == undisturbed[key] for key in undisturbed.keys() - TIMES)


def lines(path):
    return Path(path).read_bytes().count(b"\n") if Path(path).exists() else 0


def page():
    return Path("page.html").read_text().split("<footer>")[0]


@pytest.mark.parametrize("stop", ["SIGKILL", "SIGINT"])
def test_killed_and_resumed(folder, stop):
    undisturbed = run(*OPTIONS)
    losses, shown = Path("each.npy").read_bytes(), page()
    for path in ("each.npy", "page.html"):
        os.unlink(path)
    assert sorted(os.listdir()) == ["g.npy", "x", "y"]  # the journal of a run that is done is gone

    resumed = []
    for wanted in (8, 25):  # stopped twice
        process = start(*OPTIONS, "--resume")
        while lines("each.npy.journal") < wanted:
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        process.send_signal(getattr(signal, stop))
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (-signal.SIGKILL if stop == "SIGKILL" else 130, ""), err
        resumed.append(lines("each.npy.journal") - 1)
        assert wanted <= resumed[-1] + 1 < N_SHARDS
        assert not Path("each.npy").exists() and not Path("page.html").exists()

    assert "--resume continues it" in run(*OPTIONS, code=2)
    result = run(*OPTIONS, "--resume")
    assert result["pieces_resumed"] >= resumed[-1] > resumed[0]
    assert same(result, undisturbed) and page() == shown
    assert Path("each.npy").read_bytes() == losses
    assert not [name for name in os.listdir() if "journal" in name or "part" in name]


def test_killed_with_workers_resumed_without(folder):
    pytest.importorskip("distributed")
    undisturbed = run(*OPTIONS)
    losses = Path("each.npy").read_bytes()
    os.unlink("each.npy")
    process = start(*OPTIONS, "--workers", 2)
    while lines("each.npy.journal") < 8:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.kill()
    process.communicate()
    result = run(*OPTIONS, "--resume")
    assert result["pieces_resumed"] >= 7
    assert same(result, undisturbed) and Path("each.npy").read_bytes() == losses


# In this process, stopped at a chosen shard.


@pytest.fixture
def stopped(folder, monkeypatch, capsys):
    """Run until the twelfth shard, and say what `--resume` says."""
    real = functional.score

    def until(*arguments, **options):
        until.calls += 1
        if until.calls > 12:  # the first is the warm-up
            raise KeyboardInterrupt
        return real(*arguments, **options)

    def stop(*options):
        until.calls = 0
        monkeypatch.setattr(functional, "score", until)
        assert main(["eval", *options, "--json"]) == 130
        monkeypatch.setattr(functional, "score", real)
        capsys.readouterr()

    def go_on(*options):
        code = main(["eval", *options, "--resume", "--json"])
        captured = capsys.readouterr()
        return json.loads(captured.out) if code == 0 else captured.err.removeprefix("fastloss: error: ").strip()

    stop.go_on = go_on
    return stop


SIMPLE = ["x", "y", "--journal", "j"]


def test_each_line_is_a_shard(stopped):
    stopped(*SIMPLE)
    first, *others = map(json.loads, Path("j").read_text().splitlines())
    assert len(first["shards"]) == N_SHARDS and [entry["piece"] for entry in others] == list(range(11))
    result = stopped.go_on(*SIMPLE)
    assert result["pieces_resumed"] == 11 and result["rows_counted"] == sum(400 + i for i in range(N_SHARDS))
    assert not Path("j").exists()


@pytest.mark.parametrize("cut", [1, 100, 10_000])
def test_a_torn_last_line_is_done_again(stopped, cut):
    undisturbed = run("x", "y")
    stopped(*SIMPLE)
    data = Path("j").read_bytes()
    last = data.rstrip(b"\n").rindex(b"\n") + 1
    Path("j").write_bytes(data[: max(last, len(data) - cut)])
    result = stopped.go_on(*SIMPLE)
    assert result["pieces_resumed"] == 10 and same(result, undisturbed)


def test_a_last_line_of_zeros_is_done_again(stopped):
    """What some file systems leave after a crash."""
    undisturbed = run("x", "y")
    stopped(*SIMPLE)
    with open("j", "ab") as file:
        file.write(bytes(300) + b"\n")
    assert same(stopped.go_on(*SIMPLE), undisturbed)


def test_an_empty_journal(stopped):
    Path("j").write_bytes(b'{"fastloss jour')
    assert stopped.go_on(*SIMPLE)["pieces_resumed"] == 0


def test_what_is_no_journal_is_left_alone(stopped):
    before = Path("x/3.npy").read_bytes()
    assert stopped.go_on("x", "y", "--journal", "x/3.npy") == "x/3.npy: is no journal"
    assert run("x", "y", "--journal", "x/3.npy", code=2).endswith("x/3.npy: is no journal\n")  # not: remove it
    assert Path("x/3.npy").read_bytes() == before


def test_a_line_that_is_there_twice_counts_once(stopped):
    undisturbed = run("x", "y")
    stopped(*SIMPLE)
    lines = Path("j").read_bytes().splitlines(keepends=True)
    Path("j").write_bytes(b"".join([*lines, *lines[3:6]]))
    result = stopped.go_on(*SIMPLE)
    assert result["pieces_resumed"] == 11 and same(result, undisturbed)


def test_damage_elsewhere_is_an_error(stopped):
    stopped(*SIMPLE)
    data = bytearray(Path("j").read_bytes())
    data[data.index(b'"piece": 3') + 9] = ord("4")  # still JSON, but not what was written
    Path("j").write_bytes(data)
    assert stopped.go_on(*SIMPLE) == "j: damaged in line 5; remove the file to start anew"


def test_another_job_is_refused(stopped):
    stopped(*SIMPLE)
    for options, what in (
        (["--label-smoothing", "0.1"], "label_smoothing was 0.0, is 0.1"),
        (["--loss", "cross_entropy", "--ignore-index", "3"], "ignore_index was None, is 3"),
        (["--bootstrap", "10"], "bootstrap was None, is 10"),
        (["--chunk-size", "10"], "chunk_size was None, is 10"),
        (["--top-k", "2"], "top_k was None, is 2"),
        (["--per-sample", "a.npy"], "losses was None, is a.npy"),
    ):
        message = stopped.go_on(*SIMPLE, *options)
        assert message == f"j: is the journal of another run: {what}"
    np.save("y/30.npy", np.zeros(430, int))
    assert stopped.go_on(*SIMPLE) == "j: is the journal of another run: y/30.npy has changed"
    os.unlink("y/49.npy")
    os.unlink("x/49.npy")
    assert stopped.go_on(*SIMPLE) == "j: is the journal of another run: shards differ"


def test_losses_that_are_gone(stopped):
    options = ["x", "y", "--per-sample", "a.npy"]
    stopped(*options)
    os.unlink(".a.npy.part")
    assert stopped.go_on(*options).endswith(".a.npy.part, is gone; remove the journal to start anew")
    assert Path("a.npy.journal").exists()


@pytest.mark.parametrize(
    ("damage", "resumed"),
    [
        (lambda data: data[: len(data) // 2], (4, 6)),
        (lambda data: data[:200], (0, 0)),
        (lambda data: b"", (0, 0)),
        (lambda data: data[:3000] + bytes(4) + data[3004:], (10, 10)),  # losses of the second shard
        (lambda data: bytes(100) + data[100:], (11, 11)),  # the header, which is written anew
        (lambda data: data + bytes(200_000), (11, 11)),
    ],
    ids=["half", "one loss", "nothing", "four bytes", "header", "longer"],
)
def test_losses_that_were_damaged_are_computed_again(stopped, damage, resumed):
    undisturbed = run("x", "y", "--per-sample", "a.npy")
    losses = Path("a.npy").read_bytes()
    os.unlink("a.npy")
    stopped("x", "y", "--per-sample", "a.npy")
    part = Path(".a.npy.part")
    part.write_bytes(damage(part.read_bytes()))
    result = stopped.go_on("x", "y", "--per-sample", "a.npy")
    low, high = resumed
    assert low <= result["pieces_resumed"] <= high and same(result, undisturbed)
    assert Path("a.npy").read_bytes() == losses


def test_damaged_after_the_last_shard(stopped, monkeypatch):
    """What had been put in its place already is taken back, checked and mended."""
    undisturbed = run("x", "y", "--per-sample", "a.npy")
    losses = Path("a.npy").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["eval", "x", "y", "--per-sample", "a.npy"]) == 130
    os.truncate("a.npy", 1000)
    result = stopped.go_on("x", "y", "--per-sample", "a.npy")
    assert result["pieces_resumed"] == 0 and same(result, undisturbed)
    assert Path("a.npy").read_bytes() == losses


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit of file sizes")
def test_a_full_disk_is_one_line(folder):
    """Neither closing the journal nor closing the losses hides the error that ended the run."""
    import resource

    def run(*options, limit):
        done = subprocess.run(
            [sys.executable, "-m", "fastloss", "eval", "x", "y", *options],
            capture_output=True, text=True, timeout=240,
            env={**os.environ, "PYTHONPATH": str(Path(fastloss.__file__).parents[1])},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip
        assert done.returncode == 2 and done.stdout == ""
        return done.stderr

    expected = "fastloss: error: j: the journal cannot be used: file too large\n"
    assert run("--journal", "j", limit=9000) == expected
    os.unlink("j")
    os.mkdir("small")
    message = run("--reduction", "none", "--output", "small/a.npy", "--journal", "small/j", limit=30_000)
    assert message == "fastloss: error: small/a.npy: cannot be written: file too large\n"


def test_killed_after_the_last_shard(stopped, monkeypatch):
    """At each of the last steps: before the files are put in place, and before the journal goes."""
    from fastloss.cli.files.output import OutputFile

    undisturbed = run("x", "y", "--per-sample", "a.npy")
    losses = Path("a.npy").read_bytes()
    for place in ((OutputFile, "commit"), (Journal, "remove")):
        os.unlink("a.npy")

        def killed(self):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(*place, killed)
            assert main(["eval", "x", "y", "--per-sample", "a.npy"]) == 130
        result = stopped.go_on("x", "y", "--per-sample", "a.npy")
        assert result["pieces_resumed"] == N_SHARDS and same(result, undisturbed)
        assert Path("a.npy").read_bytes() == losses


def test_a_journal_that_cannot_be_written(stopped, folder):
    assert stopped.go_on("x", "y", "--journal", "nowhere/j").endswith("cannot be used: no such file or directory")
    if Path("/dev/full").exists():
        message = stopped.go_on("x", "y", "--journal", "/dev/full")
        assert message == "/dev/full: the journal cannot be used: not a regular file"


def test_state_survives_json(folder):
    """Every statistic: from JSON comes what went in, and merging two halves gives the whole."""
    pytest.importorskip("numpy")
    from fastloss.cli.eval.stats.bootstrap import Resampling

    measures = Measures(
        top_k=2, groups=True, report=True, resampling=Resampling(20, 1, "group"), against=True, documents=True, n_bytes="row",
        brier=True, entropy=True, bins=10, macro="shard",
    )  # fmt: skip
    rng = np.random.default_rng(31)
    n = 500
    loss = rng.exponential(size=n) ** 8
    loss[3], loss[400] = np.inf, 1e300
    flags = rng.random((4, n)) > 0.3
    rows = Rows(
        loss=np.where(flags[0], loss, 0), divisor=rng.random(n), counted=flags[0], correct=flags[1] & flags[0],
        in_top_k=flags[2], probability=rng.random(n), outcome=flags[3], target=np.arange(n), prediction=rng.random(n),
        kl=rng.random(n), same=flags[1], reference_loss=loss, reference_correct=flags[2], reference_in_top_k=flags[3],
        delta_p=rng.normal(size=n), delta_p_squared=rng.random(n), n_bytes=rng.integers(0, 9, n).astype(float), brier=rng.random(n), entropy=rng.random(n), reference_prediction=np.arange(n)[::-1],
        squared=rng.random(n), squared_huge=loss, squared_tiny=rng.random(n),
    )  # fmt: skip
    place = Place(2, 10, 1000, 300, 4, rng.integers(0, 5, n), rng.integers(0, 40, n), rng.integers(0, 9, n))
    whole, halves = State(measures), State(measures)
    whole.add(rows, place)
    for cut in (slice(250, n), slice(0, 250)):
        part = State(measures)
        part.add(Rows(*(a[cut] for a in vars(rows).values())), place.after(cut.start))
        part = State.from_json(json.loads(json.dumps(part.to_json())), measures)
        halves.merge(part)
    for name, part in whole.parts.items():
        mine, its = (json.loads(json.dumps(p.to_json())) for p in (part, halves.parts[name]))
        if isinstance(mine, list) and name == "bootstrap":
            mine, its = ({tuple(e[:2]): e[2] for e in entries if any(e[2])} for entries in (mine, its))
        if name == "documents":
            mine, its = ({tuple(e[:2]): e[2:] for e in entries} for entries in (mine, its))
        assert mine == its, name
    assert len(whole.parts["worst"].rows) == 20 and whole.parts["worst"].rows[0][0] == max(loss[flags[0]])


def test_a_second_journal_is_refused(folder):
    job = {"loss": "mse_loss"}
    journal = Journal("j", job, resume=False)
    journal.start()
    journal.close()
    with pytest.raises(Exception, match="--resume continues it"):
        Journal("j", job, resume=False)
