"""`fastloss eval --documents` and `--bytes`: sums per document, exact over shards, workers and resumed runs."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from eval_figures import figures

import fastloss
from fastloss.cli import main
from fastloss.cli.eval.stats.documents import Bytes, Documents, DocumentSums, table_of
from fastloss.cli.eval.stats.sums import Place, Rows

N_SHARDS, N_ROWS = 12, 1_300


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Logits and labels as one file and as shards; documents of 0 to 40 rows, whose first row is ignored, as offsets and as ids."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, (N_ROWS, 9)).astype(np.float32)
    y = rng.integers(0, 9, N_ROWS)
    easy = rng.random(N_ROWS) < 0.8
    x[easy, y[easy]] += 9
    cuts = np.sort(rng.choice(np.arange(1, N_ROWS), 99, replace=False))
    offsets = np.concatenate(([0], cuts[:50], cuts[49:], [N_ROWS]))  # one document is empty
    y[offsets[:-1]] = -100
    for name, whole in (("x", x), ("y", y)):
        np.save(f"{name}.npy", whole)
        Path(name).mkdir()
        for i in range(N_SHARDS):
            np.save(f"{name}/{name}-{i}.npy", whole[i * 100 : (i + 1) * 100 if i < N_SHARDS - 1 else None])
    np.save("offsets.npy", offsets)
    np.save("ids.npy", np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)))
    np.save("bytes.npy", rng.integers(0, 9, N_ROWS))
    return tmp_path


def expected():
    """Of each document, from the losses of rows."""
    x, y, offsets, n_bytes = (np.load(f"{name}.npy") for name in ("x", "y", "offsets", "bytes"))
    scores = fastloss.score(x, y)
    for begin, end in zip(offsets, offsets[1:], strict=False):
        counted = y[begin:end] != -100
        yield (
            -math.fsum(scores.nll[begin:end].tolist()),
            int(counted.sum()),
            bool(scores.correct[begin:end][counted].all()),
            int(n_bytes[begin:end][counted].sum()),
        )


def test_figures_of_documents(folder, evaluate):
    found = evaluate("x.npy", "y.npy", "--documents", "offsets.npy", "--bytes", "bytes.npy", "--per-document", "d.npy")
    table, wanted = np.load("d.npy"), list(expected())
    assert table["document"].tolist() == list(range(len(wanted)))
    for name, values in zip(("log_prob", "tokens", "is_greedy", "bytes"), zip(*wanted, strict=True), strict=True):
        assert table[name].tolist() == list(values)
    assert 5 < table["is_greedy"].sum() < 60
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(table["log_prob_per_token"], table["log_prob"] / table["tokens"])
        np.testing.assert_allclose(table["log_prob_per_byte"], table["log_prob"] / table["bytes"], rtol=1e-15)
        np.testing.assert_allclose(table["bits_per_byte"], -table["log_prob_per_byte"] / np.log(2), rtol=1e-15)
    empty = table[table["tokens"] == 0]
    assert 50 in empty["document"] and np.isnan(empty["log_prob_per_token"]).all() and empty["is_greedy"].all()

    documents = found["documents"]
    assert (documents["file"], documents["documents"]) == ("offsets.npy", len(wanted))
    assert documents["greedy_count"] == table["is_greedy"].sum() == documents["is_greedy"] * len(wanted)
    assert documents["log_prob"] == pytest.approx(table["log_prob"].mean(), rel=1e-14)
    for name in ("log_prob_per_token", "log_prob_per_byte", "bits_per_byte"):
        assert documents[name] == pytest.approx(np.nanmean(table[name]), rel=1e-13)
    assert found["bytes"] == table["bytes"].sum()
    assert found["bits_per_byte"] == pytest.approx(-table["log_prob"].sum() / found["bytes"] / math.log(2), rel=1e-13)


def test_bits_per_byte_is_the_accumulators(folder, evaluate):
    """Bytes of each row, or of all of a shard: those of ignored rows only count in the second."""
    x, y, n_bytes = (np.load(f"{name}.npy") for name in ("x", "y", "bytes"))
    np.save("total.npy", [n_bytes.sum()])
    accumulator = fastloss.Accumulator("bits_per_byte")
    accumulator.update(x, y, n_bytes)
    found = evaluate("x.npy", "y.npy", "--bytes", "total.npy", "--bootstrap", 100)
    assert found["bits_per_byte"] == pytest.approx(accumulator.compute(), rel=1e-7)
    accumulator.reset()
    accumulator.update(x, y, n_bytes[y != -100])
    found = evaluate("x.npy", "y.npy", "--bytes", "bytes.npy", "--bootstrap", 100)
    assert found["bits_per_byte"] == pytest.approx(accumulator.compute(), rel=1e-7)
    low, high = found["intervals"]["bits_per_byte"]
    assert low < found["bits_per_byte"] < high
    np.save("groups.npy", np.arange(N_ROWS) % 3)
    groups = evaluate("x.npy", "y.npy", "--bytes", "bytes.npy", "--group-by", "groups.npy")["groups"]
    for group in groups:
        part = slice(group["group"], None, 3)
        accumulator.reset()
        accumulator.update(x[part], y[part], n_bytes[part][y[part] != -100])
        assert group["bits_per_byte"] == pytest.approx(accumulator.compute(), rel=1e-7)


def test_offsets_and_ids_are_one(folder, evaluate):
    """Ids leave out documents without rows."""
    ids = np.load("ids.npy")
    Path("ids.txt").write_text("".join(f"document {i}\n" for i in ids))
    Path("ids.csv").write_text("row,document\n" + "".join(f"{row},{i}\n" for row, i in enumerate(ids)))
    evaluate("x.npy", "y.npy", "--documents", "offsets.npy", "--per-document", "offsets-d.npy")
    whole = np.load("offsets-d.npy")[np.bincount(ids, minlength=ids[-1] + 1) > 0]
    for name in ("ids.npy", "ids.csv"):
        evaluate("x.npy", "y.npy", "--documents", name, "--per-document", "d.npy")
        assert np.load("d.npy").tobytes() == whole.tobytes()
    evaluate("x.npy", "y.npy", "--documents", "ids.txt", "--per-document", "d.npy")
    named = {f"document {row['document']}": row["log_prob"] for row in whole}
    assert {str(row["document"]): row["log_prob"] for row in np.load("d.npy")} == named


def test_forms_of_tables(folder, evaluate, error):
    options = ["x.npy", "y.npy", "--documents", "offsets.npy", "--bytes", "bytes.npy", "--per-document"]
    evaluate(*options, "d.npy")
    evaluate(*options, "d.jsonl")
    table = np.load("d.npy")
    lines = [json.loads(line) for line in Path("d.jsonl").read_text().splitlines()]
    for line, row in zip(lines, table, strict=True):
        assert list(line) == list(table.dtype.names)
        for name, value in line.items():
            assert value == row[name] or value == "NaN" and np.isnan(row[name])
    assert "written as .npy, .parquet, .jsonl" in error(*options, "d.csv")
    parquet = pytest.importorskip("pyarrow.parquet")
    evaluate(*options, "d.parquet")
    columns = parquet.read_table("d.parquet").to_pydict()
    for name in table.dtype.names:
        np.testing.assert_array_equal(np.array(columns[name]), table[name])


def test_documents_of_the_first_axis(folder, evaluate):
    """Rows (document, token): one id, and one number of bytes, per document."""
    x, y = np.load("x.npy").reshape(26, 50, 9), np.load("y.npy").reshape(26, 50)
    np.save("x3.npy", x), np.save("y3.npy", y), np.save("names.npy", np.arange(26) // 2)
    np.save("sizes.npy", np.arange(1, 14))
    evaluate("x3.npy", "y3.npy", "--documents", "names.npy", "--bytes", "sizes.npy", "--per-document", "d.npy")
    table = np.load("d.npy")
    nll = fastloss.score(x, y).nll.reshape(13, 100)
    assert table["log_prob"].tolist() == [-math.fsum(row.tolist()) for row in nll]
    assert table["bytes"].tolist() == list(range(1, 14))
    np.save("samples.npy", np.arange(26))
    found = evaluate("x3.npy", "y3.npy", "--bytes", "samples.npy")
    assert found["bytes"] == sum(range(26))


def test_shards_and_chunks_are_one_array(folder, evaluate):
    options = ["--documents", "offsets.npy", "--bytes", "bytes.npy", "--bootstrap", 50]
    whole = evaluate("x.npy", "y.npy", *options, "--per-document", "d.npy")
    bytes_of = Path("d.npy").read_bytes()
    for more in ([], ["--chunk-size", 7], ["--threads", 1]):
        assert figures(evaluate("x", "y", *options, *more, "--per-document", "e.npy")) == figures(whole)
        assert Path("e.npy").read_bytes() == bytes_of


def test_against_another_model(folder, evaluate):
    rng = np.random.default_rng(1)
    np.save("r.npy", np.load("x.npy") + rng.normal(0, 1, (N_ROWS, 9)).astype(np.float32))
    options = ["--documents", "offsets.npy", "--per-document"]
    evaluate("x.npy", "y.npy", "--against", "r.npy", *options, "both.npy")
    both = np.load("both.npy")
    for name, before in (("x", ""), ("r", "reference_")):
        evaluate(f"{name}.npy", "y.npy", *options, "one.npy")
        one = np.load("one.npy")
        for column in ("log_prob", "log_prob_per_token", "is_greedy"):
            np.testing.assert_array_equal(both[before + column], one[column])


def start(*options):
    return subprocess.Popen(
        [sys.executable, "-m", "fastloss", "eval", *map(str, options), "--json"],
        env={**os.environ, "PYTHONPATH": str(Path(fastloss.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_and_resumed(folder, evaluate):
    command = ["x", "y", "--documents", "ids.npy", "--bytes", "bytes.npy", "--per-document", "d.jsonl"]
    undisturbed = evaluate(*command)
    table = Path("d.jsonl").read_bytes()
    os.unlink("d.jsonl")
    journal = Path("d.jsonl.journal")
    process = start(*command, "--chunk-size", 3)
    while not journal.exists() or journal.read_bytes().count(b"\n") < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    process = start(*command, "--chunk-size", 3, "--resume")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["pieces_resumed"] >= 4
    assert figures(result) == figures(undisturbed)
    assert Path("d.jsonl").read_bytes() == table


def test_workers(folder, evaluate):
    pytest.importorskip("distributed")
    command = ["x", "y", "--documents", "offsets.npy", "--bytes", "bytes.npy", "--per-document", "d.npy"]
    here, table = evaluate(*command), Path("d.npy").read_bytes()
    assert figures(evaluate(*command, "--workers", 2)) == figures(here)
    assert Path("d.npy").read_bytes() == table


def test_text_and_page(folder, capsys):
    options = ["--documents", "offsets.npy", "--bytes", "bytes.npy", "--report", "page.html"]
    assert main(["eval", "x.npy", "y.npy", *options]) == 0
    shown = capsys.readouterr().out
    for expected_line in ("documents      101, greedy", "log-prob", "per token", "per byte", "bits per byte"):
        assert expected_line in shown, shown
    page = Path("page.html").read_text()
    assert "<h2>101 documents</h2>" in page and "bits per byte" in page and "log-probability per token" in page


def test_errors(folder, error):
    np.save("short.npy", np.arange(7))
    assert "holds 7 entries" in (told := error("x.npy", "y.npy", "--documents", "short.npy")) and "offsets" in told
    assert "holds 7 entries" in error("x.npy", "y.npy", "--bytes", "short.npy")
    np.save("negative.npy", -np.arange(N_ROWS))
    assert "whole numbers of at least 0" in error("x.npy", "y.npy", "--bytes", "negative.npy")
    sizes = np.ones(101, int)
    np.save("sizes.npy", sizes)
    assert "has 1 bytes, but no rows" in error("x.npy", "y.npy", "--documents", "offsets.npy", "--bytes", "sizes.npy")
    assert "--documents" in error("x.npy", "y.npy", "--per-document", "d.npy")
    assert "is also an input" in error("x.npy", "y.npy", "--documents", "ids.npy", "--per-document", "ids.npy")
    assert "label smoothing" in error("x.npy", "y.npy", "--documents", "ids.npy", "--label-smoothing", 0.1)
    np.save("w.npy", np.ones(9))
    assert "weights" in error("x.npy", "y.npy", "--bytes", "bytes.npy", "--weight", "w.npy")
    assert "class labels" in error("x.npy", "x.npy", "--documents", "ids.npy", "--loss", "mse_loss")
    assert "needs targets" in error("x.npy", "--no-targets", "--against", "x.npy", "--documents", "ids.npy")


def test_sums_merge_in_any_order():
    """Sums of numbers of any size, infinities among them, in parts that go through JSON."""
    rng = np.random.default_rng(2)
    loss = rng.exponential(1, 3_000) * 10.0 ** rng.integers(-200, 200, 3_000)
    loss[7] = np.inf
    codes, place = rng.integers(0, 50, 3_000), Place(0, 0, 0, 0, 1)
    n_bytes = rng.integers(0, 9, 3_000).astype(float)

    def added(order):
        sums = DocumentSums()
        for part in order:
            here = Place(0, 0, 0, 0, 1, None, codes[part])
            new = DocumentSums()
            new.add(Rows(loss=loss[part], correct=loss[part] < 1, n_bytes=n_bytes[part]), here)
            sums.merge(DocumentSums.from_json(json.loads(json.dumps(new.to_json()))))
        return table_of(sums, np.arange(51), True, False)

    parts = [slice(k, None, 37) for k in range(37)]
    tables = [added(parts), added(parts[::-1]), added([slice(None)])]
    for table in tables[1:]:
        for name, column in table.items():
            np.testing.assert_array_equal(column, tables[0][name])
    wanted = [-math.fsum(loss[codes == code].tolist()) for code in range(50)]
    assert tables[0]["log_prob"].tolist() == [*wanted, 0.0]
    assert place.documents is None


def test_documents_and_bytes_lie_where_they_should():
    """Two shards, of 2 documents of 3 tokens and of 1 of 4; one more without rows in between."""
    samples, losses = [2, 0, 1], [6, 0, 4]
    documents = Documents(np.array([0, 3, 3, 10]), samples, losses, "f")
    assert documents.kind == "offset"
    assert documents.codes(0, 0, 6).tolist() == [0, 0, 0, 2, 2, 2] and documents.codes(2, 1, 4).tolist() == [2, 2, 2]
    assert documents.firsts().tolist() == [0, -1, 3]
    n_bytes = Bytes(np.array([5, 6, 7]), samples, losses, None, "f")  # of shards, or samples: the latter
    assert (n_bytes.kind, n_bytes.amounts(0, 0, 6).tolist()) == ("sample", [5, 0, 0, 6, 0, 0])
    assert n_bytes.amounts(2, 0, 2).tolist() == [7, 0] and n_bytes.amounts(2, 2, 4).tolist() == [0, 0]
    named = Documents(np.array([4, 3, 4]), [2, 1], [6, 4], "f")
    assert named.names == [3, 4] and named.firsts().tolist() == [3, 0] and named.codes(1, 0, 2).tolist() == [1, 1]
