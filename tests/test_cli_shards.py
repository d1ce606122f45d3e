"""`fastloss eval` over many shards: the figures of one file, pairs matched by name, groups, intervals, workers."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import reference
from eval_figures import figures

import fastloss
from fastloss._exact import LOWEST, ExactSum
from fastloss.cli import main
from fastloss.cli.eval.stats.bootstrap import Resampling, frequencies
from fastloss.cli.eval.stats.exactly import add_all, levels

RNG = np.random.default_rng(20)
SIZES = (30, 1, 77, 12, 150, 33, 64, 8, 99, 41, 5)  # more than ten: 10 sorts after 9
CLASSES = 7


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def data(dtype="f4", sizes=SIZES, seed=0):
    """Logits and labels of each shard; some labels are ignored."""
    rng = np.random.default_rng(seed)
    logits = [(rng.normal(size=(n, CLASSES)) * 3).astype(dtype) for n in sizes]
    labels = [rng.integers(0, CLASSES, n) for n in sizes]
    for y in labels:
        y[5::9] = -100
    return logits, labels


def save(folder, logits, labels):
    """Shards in folders x and y of differently written numbers, and all of it in x.npy and y.npy."""
    for name, arrays, pattern in (("x", logits, "logits-{}"), ("y", labels, "step7_labels_{:04d}")):
        (folder / name).mkdir()
        for i, array in enumerate(arrays):
            np.save(folder / name / f"{pattern.format(i)}.npy", array)
        np.save(folder / f"{name}.npy", np.concatenate(arrays))


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_shards_are_one_file(evaluate, folder, dtype):
    save(folder, *data(dtype))
    options = ["--top-k", 3, "--bootstrap", 50, "--per-sample"]
    whole = evaluate("x.npy", "y.npy", *options, "whole.npy")
    x, y = np.load("x.npy"), np.load("y.npy")
    terms = reference.terms("cross_entropy", x, y)
    assert whole["mean"] == pytest.approx(
        float(terms.each.sum() / (y != -100).sum()), rel=1e-13 if dtype == "f8" else 3e-7
    )
    order = np.argsort(-x.astype("f8"), axis=1, kind="stable")
    assert whole["top_k_correct"] == (order[:, :3] == y[:, None]).any(axis=1).sum()
    assert whole["top_k_accuracy"] == whole["top_k_correct"] / whole["rows_counted"]
    for arguments in (["x", "y"], ["x/*.npy", "y/step*"], ["x/logits-*", "y", "--chunk-size", 10]):
        result = evaluate(*arguments, *options, "shards.npy")
        assert figures(result) == figures(whole)  # every bit
        assert (result["shards"], result["predictions"]["shape"]) == (len(SIZES), list(x.shape))
        assert Path("shards.npy").read_bytes() == Path("whole.npy").read_bytes()
    np.testing.assert_array_equal(np.load("whole.npy"), fastloss.cross_entropy(x, y, reduction="none"))
    assert not [name for name in os.listdir() if "journal" in name or "part" in name]


@pytest.mark.parametrize("name", ["binary_cross_entropy", "mse_loss", "rmse_loss", "huber_loss", "kl_div"])
def test_elementwise_shards(evaluate, folder, name):
    rng = np.random.default_rng(1)
    x = [rng.random((n, 3)) for n in SIZES]
    y = [rng.random((n, 3)) > 0.5 if name.startswith("bin") else rng.random((n, 3)) for n in SIZES]
    save(folder, x, y)
    np.save("w.npy", w := rng.random(sum(SIZES)))
    x, y = np.concatenate(x), np.concatenate(y).astype(float)
    for extra, weight in ([], None), (["--weight", "w.npy"], w[:, None]):
        result = evaluate("x", "y", "--loss", name, *extra)
        assert result["mean"] == pytest.approx(float(reference.loss(name, x, y, weight=weight)), rel=1e-12)
        assert result["rows_counted"] == sum(SIZES)
        if name == "huber_loss":
            assert result["mae"] == pytest.approx(float(reference.loss("l1_loss", x, y, weight=weight)), rel=1e-12)
    if name == "mse_loss":
        result = evaluate("x", "y", "--axis", 0, "--loss", name)
        np.testing.assert_allclose(result["value"], ((x - y) ** 2).mean(axis=0), rtol=1e-13)
    if name != "rmse_loss":
        evaluate("x", "y", "--loss", name, "--per-sample", "each.npy")
        np.testing.assert_array_equal(np.load("each.npy"), getattr(fastloss, name)(x, y, reduction="none"))


def test_class_weights_and_smoothing(evaluate, folder):
    save(folder, *data("f8"))
    np.save("w.npy", w := np.random.default_rng(2).random(CLASSES))
    result = evaluate("x", "y", "--weight", "w.npy", "--label-smoothing", 0.1, "--loss", "cross_entropy")
    x, y = np.load("x.npy"), np.load("y.npy")
    expected = reference.loss("cross_entropy", x, y, weight=w, label_smoothing=0.1)
    assert result["mean"] == pytest.approx(float(expected), rel=1e-13)


def test_documents_of_different_lengths(evaluate, folder):
    rng = np.random.default_rng(3)
    shapes = [(2, 5), (3, 4), (1, 9)]
    x = [rng.normal(size=(*shape, CLASSES)) for shape in shapes]
    y = [rng.integers(0, CLASSES, shape) for shape in shapes]
    for i in range(3):
        np.save(f"x{i}.npy", x[i])
        np.save(f"y{i}.npy", y[i])
    Path("g.txt").write_text("a\nb\na\nb\nb\na\n")  # one for each document
    result = evaluate("x?.npy", "y?.npy", "--group-by", "g.txt", "--per-sample", "each.npy")
    each = [reference.terms("cross_entropy", *pair).each for pair in zip(x, y, strict=True)]
    documents = [row for rows in each for row in rows]
    np.testing.assert_allclose(np.load("each.npy"), np.concatenate(documents).astype(float), rtol=1e-14)
    for entry, members in zip(result["groups"], ([0, 2, 5], [1, 3, 4]), strict=True):
        rows = np.concatenate([documents[i] for i in members])
        assert entry["mean"] == pytest.approx(float(rows.mean()), rel=1e-13)
        assert entry["counted"] == rows.size
    assert result["predictions"]["shape"] is None


# Groups.


@pytest.mark.parametrize(
    "form", ["int.npy", "str.npy", "g.txt", "mark.txt", "g.csv", "g.json", "g.jsonl", "shards.json"]
)
def test_groups(evaluate, folder, form):
    logits, labels = data("f8")
    save(folder, logits, labels)
    x, y = np.load("x.npy"), np.load("y.npy")
    names = np.array(["de", "en", "fr"])[np.random.default_rng(4).integers(0, 3, len(y))]
    if form == "int.npy":
        names = np.random.default_rng(4).integers(-1, 2, len(y))
    shards = [f"s{i % 4}" for i in range(len(SIZES))]
    if form.endswith(".npy"):
        np.save(form, names)
    elif form == "g.txt":
        Path(form).write_text("\n".join(names) + "\n")
    elif form == "mark.txt":  # as Windows writes text
        Path(form).write_bytes("\r\n".join(names).encode("utf-8-sig"))
    elif form == "g.csv":
        Path(form).write_text("id,group\n" + "".join(f"{i},{name}\n" for i, name in enumerate(names)))
    elif form == "g.jsonl":
        Path(form).write_text("".join(f'"{name}"\n' for name in names))
    else:
        Path(form).write_text(json.dumps(shards if form == "shards.json" else names.tolist()))
        names = np.repeat(shards, SIZES) if form == "shards.json" else names
    result = evaluate("x", "y", "--group-by", form, "--top-k", 2)
    each, counted = reference.terms("cross_entropy", x, y).each, y != -100
    best = x.argmax(axis=1)
    in_two = (np.argsort(-x, axis=1)[:, :2] == y[:, None]).any(axis=1)
    assert [entry["group"] for entry in result["groups"]] == sorted(set(names.tolist()))
    for entry in result["groups"]:
        rows = (names == entry["group"]) & counted
        assert entry["counted"] == rows.sum()
        assert entry["mean"] == pytest.approx(float(each[rows].mean()), rel=1e-13)
        assert entry["perplexity"] == pytest.approx(math.exp(each[rows].mean()), rel=1e-13)
        assert entry["accuracy"] == (best == y)[rows].mean()
        assert entry["top_k_accuracy"] == in_two[rows].mean()


def test_weighted_groups_and_infinite_losses(evaluate, folder, capsys):
    x, y = np.random.default_rng(5).normal(size=(40, 3)), np.random.default_rng(6).integers(0, 3, 40)
    x[7, y[7]] = -np.inf
    w = np.array([1.0, 0.25, 3.0])
    for name, array in (("x", x), ("y", y), ("w", w), ("g", np.arange(40) % 2)):
        np.save(f"{name}.npy", array)
    groups = evaluate("x.npy", "y.npy", "--weight", "w.npy", "--group-by", "g.npy", "--loss", "cross_entropy")["groups"]
    expected = reference.loss("cross_entropy", x[::2], y[::2], weight=w)
    assert groups[0]["mean"] == pytest.approx(float(expected), rel=1e-13)
    assert groups[1]["mean"] == "Infinity"
    assert main(["eval", "x.npy", "y.npy", "--group-by", "g.npy", "--loss", "cross_entropy"]) == 0
    table = capsys.readouterr().out.splitlines()[-3:]
    assert table[0].split() == ["group", "mean", "perplexity", "accuracy", "counted"]
    assert table[1].split()[0] == "0" and table[2].split()[1] == "inf"
    options = ["--group-by", "g.npy", "--top-k", "2", "--report", "r.html"]
    assert main(["eval", "x.npy", "y.npy", "--loss", "cross_entropy", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].split() == ["group", "mean", "perplexity", "accuracy", "top-2", "counted"]
    assert any(line.startswith("top-2 ") for line in lines)  # the figure of all goes by the same name
    assert '<th scope="col">top-2</th>' in Path("r.html").read_text()


BIG = [2**63, -(2**70), 7]


@pytest.mark.parametrize("form", ["g.txt", "g.csv", "g.json", "g.jsonl", "m.jsonl", "m.csv", "g.npy"])
def test_group_ids_beyond_int64(evaluate, folder, form):
    """They stay the integers they are, in order."""
    for i in range(3):
        np.save(f"x{i}.npy", np.full((4, 2), float(i)))
        np.save(f"y{i}.npy", np.zeros(4, int))
    ids = [2**63, 2**64 - 1, 7] if form == "g.npy" else BIG
    if form == "g.npy":
        np.save(form, np.array(ids, np.uint64))
    elif form == "m.jsonl":
        entries = [{"predictions": f"x{i}.npy", "targets": f"y{i}.npy", "group": ids[i]} for i in range(3)]
        Path(form).write_text("\n".join(map(json.dumps, entries)))
    elif form == "m.csv":
        Path(form).write_text("".join(f"x{i}.npy,y{i}.npy,{ids[i]}\n" for i in range(3)))
    else:
        Path(form).write_text(json.dumps(ids) if form == "g.json" else "".join(f"{number}\n" for number in ids))
    options = ["--manifest", form] if form[0] == "m" else ["x?.npy", "y?.npy", "--group-by", form]
    result = evaluate(*options, "--bootstrap", 10, "--resample", "group", "--output", "out.json")
    assert [entry["group"] for entry in result["groups"]] == sorted(ids)
    assert json.loads(Path("out.json").read_text())["groups"] == result["groups"]


# What str.splitlines takes for the end of a line, and files of lines don't.
SEPARATORS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("form", ["g.txt", "g.csv", "g.tsv", "g.json", "g.jsonl", "m.jsonl", "m.csv", "m.tsv"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_only_line_ends_end_lines(evaluate, folder, form, newline):
    names = [f"a{separator}b" for separator in SEPARATORS]
    for i, name in enumerate(names):
        np.save(f"x{i}.npy" if form[0] == "g" else f"x{i}{name}.npy", np.full((3, 2), float(i)))
        np.save(f"y{i}.npy", np.zeros(3, int))
    files = [(f"x{i}{name}.npy", f"y{i}.npy", name) for i, name in enumerate(names)]
    if form == "g.json":
        text = json.dumps(names, ensure_ascii=False)
    elif form.endswith(".jsonl"):
        keys = ("predictions", "targets", "group")
        entries = names if form == "g.jsonl" else [dict(zip(keys, entry, strict=True)) for entry in files]
        text = newline.join(json.dumps(entry, ensure_ascii=False) for entry in entries) + newline
    elif form == "g.txt":
        text = newline.join(names) + newline
    else:
        rows = files if form[0] == "m" else [(name,) for name in names]
        comma = "\t" if form.endswith("tsv") else ","
        text = newline.join(comma.join(f'"{cell}"' for cell in row) for row in rows) + newline
    Path(form).write_bytes(text.encode())
    options = ["--manifest", form] if form[0] == "m" else ["x*.npy", "y*.npy", "--group-by", form]
    groups = evaluate(*options)["groups"]
    assert {entry["group"]: entry["counted"] for entry in groups} == dict.fromkeys(names, 3)


def test_a_quoted_field_may_span_lines(evaluate, folder):
    np.save("x.npy", np.zeros((2, 2)))
    np.save("y.npy", np.zeros(2, int))
    Path("g.csv").write_text('id,group\n1,"a\nb"\n2,c\n')
    assert [entry["group"] for entry in evaluate("x.npy", "y.npy", "--group-by", "g.csv")["groups"]] == ["a\nb", "c"]
    Path("m.csv").write_text('predictions,targets,group\nx.npy,y.npy,"a\nb"\n')
    assert [entry["group"] for entry in evaluate("--manifest", "m.csv")["groups"]] == ["a\nb"]


def test_groups_that_do_not_fit(error, folder):
    save(folder, *data())
    np.save("g.npy", np.arange(9))
    total = sum(SIZES)
    assert error("x", "y", "--group-by", "g.npy") == f"g.npy: holds 9 entries; expected 11 (shards) or {total} (rows)"
    np.save("g.npy", np.zeros(total))
    assert error("x", "y", "--group-by", "g.npy") == "g.npy: groups are integers or strings, not float64"
    for entries, problem in (
        ("[1, null]", "groups: [1]: expected an integer or a string, got None"),
        ("[true]", "groups: [0]: expected an integer or a string, got True"),
        ("[0.5]", "groups: [0]: expected an integer or a string, got 0.5"),
        ("{}", "a list of groups is expected"),
        ("[" * 100_000, "cannot be read: "),
    ):
        Path("g.json").write_text(entries)
        assert error("x", "y", "--group-by", "g.json").startswith(f"g.json: {problem}")
    Path("g.csv").write_text("a,b\n1,2\n")
    assert error("x", "y", "--group-by", "g.csv") == "g.csv: has several columns, none of which is called 'group'"
    assert error("x", "y", "--resample", "group", "--bootstrap", 9) == "--resample group: needs --group-by FILE"


@pytest.mark.parametrize("at", ["first", "middle", "last", "both ends"])
def test_empty_shards_count_no_rows(evaluate, folder, at):
    logits, labels = data()
    for which in {"first": [0], "middle": [5], "last": [10], "both ends": [0, 9, 10]}[at]:
        logits[which], labels[which] = logits[which][:0], labels[which][:0]
    save(folder, logits, labels)
    options = ["--per-sample", "each.npy", "--report", "r.html", "--bootstrap", 10, "--top-k", 2]
    whole = evaluate("x.npy", "y.npy", *options)
    losses = Path("each.npy").read_bytes()
    groups = [f"g{i % 2}" for i in range(len(SIZES))]
    Path("g.json").write_text(json.dumps(groups))
    for loss in [], ["--loss", "cross_entropy"]:
        result = evaluate("x", "y", *options, *loss)
        assert {**figures(result), "guessed": 0, "reason": 0} == {**figures(whole), "guessed": 0, "reason": 0}
        assert (result["shards"], result["predictions"]["shape"]) == (len(SIZES), [len(np.load("y.npy")), CLASSES])
        assert Path("each.npy").read_bytes() == losses
    by_shard = evaluate("x", "y", "--group-by", "g.json")["groups"]
    np.save("g.npy", np.repeat(groups, [len(y) for y in labels]))
    assert evaluate("x", "y", "--group-by", "g.npy")["groups"] == by_shard
    x, y = np.concatenate(logits[::2]), np.concatenate(labels[::2])
    assert by_shard[0]["mean"] == pytest.approx(float(reference.loss("cross_entropy", x, y)), rel=3e-7)


def test_empty_shards_of_values_and_weights(evaluate, error, folder):
    x = [np.random.default_rng(i).random((n, 2)) for i, n in enumerate((0, 4, 0, 3))]
    save(folder, x, [2 * a for a in x])
    np.save("w.npy", w := np.arange(1.0, 8.0))
    x = np.concatenate(x)
    assert evaluate("x", "y", "--weight", "w.npy")["mean"] == pytest.approx(np.average((x**2).mean(axis=1), weights=w))
    assert evaluate("x", "y", "--axis", 0)["value"] == pytest.approx((x**2).mean(axis=0))
    np.save("y/step7_labels_0002.npy", np.zeros((2, 2)))
    assert error("x", "y") == "x/logits-2.npy: holds no data: its shape is (0, 2)"


@pytest.mark.parametrize("kind", ["fixed", "list", "tensor"])
def test_empty_parts_of_parquet(evaluate, folder, kind):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet
    from test_cli_readers import table

    logits, labels = data()
    for i in (0, 4, 10):
        logits[i], labels[i] = logits[i][:0], labels[i][:0]
    save(folder, logits, labels)
    for i, (x, y) in enumerate(zip(logits, labels, strict=True)):
        more = (
            np.concatenate([x, np.ones((1, CLASSES), x.dtype)]),
            np.append(y, 0),
        )  # pyarrow makes no tensors of nothing
        parquet.write_table(table(*more, kind)[: len(x)], f"part-{i}.parquet")
    assert figures(evaluate("part-*.parquet:x", "part-*.parquet:y")) == figures(evaluate("x.npy", "y.npy"))


def test_nothing_but_empty_shards(error, folder):
    save(folder, [np.zeros((0, 3))] * 3, [np.zeros(0, int)] * 3)
    assert error("x", "y") == "x/logits-0.npy: holds no data: its shape is (0, 3)"
    assert error("x", "y", "--loss", "mse_loss") == "x/logits-0.npy: holds no data: its shape is (0, 3)"
    assert error("x.npy", "y.npy") == "x.npy: holds no data: its shape is (0, 3)"


# Which files belong together.


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "bare.csv", "mark.csv"])
def test_manifest(evaluate, folder, kind, tmp_path):
    (folder / "m").mkdir()
    save(folder / "m", *data())
    whole = evaluate("m/x.npy", "m/y.npy")
    entries = [(f"x/logits-{i}.npy", f"y/step7_labels_{i:04d}.npy", "ab"[i % 2]) for i in range(len(SIZES))]
    manifest = folder / "m" / f"list.{kind}"
    if kind == "jsonl":
        lines = [json.dumps(dict(zip(("predictions", "targets", "group"), entry, strict=True))) for entry in entries]
    else:
        lines = [("\t" if kind == "tsv" else ",").join(entry) for entry in entries]
        if kind != "bare.csv":
            lines.insert(0, ("\t" if kind == "tsv" else ",").join(("predictions", "targets", "group")))
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8-sig" if kind == "mark.csv" else "utf-8")
    result = evaluate("--manifest", manifest)
    assert result["mean"] == whole["mean"] and result["predictions"]["file"] == str(manifest)
    even = [i for i in range(len(SIZES)) if i % 2 == 0]
    logits, labels = data()
    loss = reference.loss("cross_entropy", *(np.concatenate([a[i] for i in even]) for a in (logits, labels)))
    assert result["groups"][0]["group"] == "a" and result["groups"][0]["mean"] == pytest.approx(float(loss), rel=3e-7)


def test_manifest_errors(error, folder):
    def manifest(text, name="m.csv"):
        Path(name).write_text(text)
        return error("--manifest", name)

    assert manifest("") == "m.csv: the manifest lists nothing"
    assert manifest("a.npy\n") == "m.csv, line 1: predictions and targets are expected"
    assert manifest("a,b,c,d\n") == "m.csv, line 1: 4 columns; expected predictions, targets, group"
    assert manifest("{oops\n", "m.jsonl").startswith("m.jsonl, line 1: not JSON: ")
    assert manifest('{"predictions": "a", "labels": "b"}\n', "m.jsonl").startswith("m.jsonl, line 1: unknown: labels;")
    entry = '{"predictions": "a\\u0000", "targets": "b", "group": %s}\n'
    assert manifest(entry % "1", "m.jsonl").startswith("a\\x00: ")
    assert manifest((entry % "1").replace("0000", "d800"), "m.jsonl").startswith("a\\ud800: ")
    for group, shown in (("true", "True"), ("1.5", "1.5"), ("[]", "[]")):
        message = f"m.jsonl, line 1: group: expected an integer or a string or null, got {shown}"
        assert manifest(entry % group, "m.jsonl") == message
    assert manifest('{"predictions": ' + "[" * 100_000, "m.jsonl").startswith("m.jsonl, line 1: not JSON: ")
    assert manifest("a" * 140_000 + ",b\n") == "m.csv: cannot be read: field larger than field limit (131072)"
    Path("m.csv").write_bytes(b"a,b\xff\n")
    assert error("--manifest", "m.csv") == "m.csv: not a text file in UTF-8: byte 3 is 0xff"
    assert manifest("a.npy,b.npy\n") == "a.npy: no such file or directory"
    assert manifest("a.npy,b.npy,g\nc.npy,d.npy\n") == "m.csv: some shards have a group, others have none"
    assert error("a", "b", "--manifest", "m.csv") == "--manifest: takes the place of PREDICTIONS and TARGETS"
    assert error("--manifest", "none.csv") == "none.csv: no such file or directory"
    assert error().startswith("the following arguments are required: PREDICTIONS, TARGETS")


@pytest.mark.parametrize(
    ("predictions", "targets", "problem"),
    [
        (
            ["x_1", "x_2", "x_3"],
            ["y_1", "y_3"],
            "(3 of predictions, 2 of targets): x_2.npy has no targets",
        ),
        (
            ["x_9", "x_10", "x_11"],
            ["y_8", "y_9", "y_10"],
            "(3 of predictions, 3 of targets): x_11.npy has no targets; y_8.npy has no predictions; --manifest says",
        ),
        (["x_10", "x_11"], ["y_20", "y_21"], "(2 of predictions, 2 of targets): x_10.npy, x_11.npy have no targets;"),
        (["x_1", "x_01"], ["y_1", "y_2"], None),
    ],
)
def test_names_that_do_not_match(error, folder, predictions, targets, problem):
    for name in predictions + targets:
        np.save(f"{name}.npy", np.zeros(3))
    message = error("x_*.npy", "y_*.npy")
    if problem is None:
        assert message.endswith("say what belongs together with --manifest")
    else:
        assert message.startswith(f"x_*.npy, y_*.npy: files do not match {problem}")


def test_nothing_found(error, folder):
    (folder / "empty").mkdir()
    assert error("empty", "empty").startswith("empty: the directory holds no arrays (.npy, ")
    assert error("none*.npy", "y.npy") == "none*.npy: no file matches the pattern"


def test_archives_with_members(evaluate, folder):
    logits, labels = data()
    for i, (x, y) in enumerate(zip(logits, labels, strict=True)):
        np.savez(f"part{i}.npz", x=x, y=y)
    (folder / "all").mkdir()
    save(folder / "all", logits, labels)
    whole = evaluate("all/x.npy", "all/y.npy")
    assert figures(evaluate("part*.npz:x", "part*.npz:y")) == figures(whole)
    assert figures(evaluate(f"{folder}:x", f"{folder}:y")) == figures(whole)


def test_shards_that_differ(error, folder):
    save(folder, *data())
    np.save("x/logits-4.npy", np.zeros((150, 8)))
    message = error("x", "y")
    assert message == "x/logits-4.npy: shape (150, 8) does not go with (30, 7) of x/logits-0.npy"
    np.save("x/logits-4.npy", np.zeros((149, 7)))
    assert error("x", "y").startswith(
        "y/step7_labels_0004.npy: shape (150,) does not fit predictions of shape (149, 7)"
    )


def test_a_bad_label_names_its_shard(error, folder):
    logits, labels = data()
    labels[6][60] = 9
    save(folder, logits, labels)
    expected = "y/step7_labels_0006.npy: label 9 at [60] is out of range: there are 7 classes"
    assert error("x", "y") == expected
    assert os.listdir("x") and sorted(os.listdir()) == ["x", "x.npy", "y", "y.npy"]


def test_guesses_that_differ(error, folder):
    rng = np.random.default_rng(7)
    save(folder, [rng.random(9), rng.random(9)], [rng.integers(0, 2, 9), rng.random(9)])
    message = error("x", "y")
    assert message.startswith("--loss: cannot be guessed (binary_cross_entropy for x/logits-0.npy, mse_loss for ")


def test_large_files_are_cut(evaluate, folder, monkeypatch):
    save(folder, *data())
    whole = evaluate("x.npy", "y.npy", "--bootstrap", 20)
    monkeypatch.setattr("fastloss.cli.eval.plan.survey._PIECE_BYTES", 1000)
    assert figures(evaluate("x.npy", "y.npy", "--bootstrap", 20)) == figures(whole)


@pytest.fixture
def opened(monkeypatch):
    """The names of the arrays that are opened, as often as they are."""
    from fastloss.cli.eval.plan import opened, survey

    names, real = [], opened.open_array

    def recorded(name):
        names.append(os.path.basename(name))
        return real(name)

    for module in (opened, survey):
        monkeypatch.setattr(module, "open_array", recorded)
    return names


def test_a_shard_is_opened_once(evaluate, folder, monkeypatch, opened):
    """However many pieces it is cut into, guessed loss and weights included."""
    save(folder, *data())
    np.save("w.npy", np.arange(1.0, CLASSES + 1))
    monkeypatch.setattr("fastloss.cli.eval.plan.survey._PIECE_BYTES", 1000)
    expected = evaluate("x.npy", "y.npy", "--weight", "w.npy")["value"]
    opened.clear()
    assert evaluate("x", "y", "--weight", "w.npy")["value"] == expected
    assert sorted(opened) == sorted([*os.listdir("x"), *os.listdir("y"), "w.npy"])


@pytest.mark.parametrize("kept", [0, 3])
def test_shards_that_do_not_stay_open(evaluate, folder, monkeypatch, opened, kept):
    """A limited number of files is open at a time: the other shards are opened again, once for all their pieces."""
    save(folder, *data())
    monkeypatch.setattr("fastloss.cli.eval.plan.survey._PIECE_BYTES", 1000)
    expected = figures(evaluate("x.npy", "y.npy"))
    monkeypatch.setattr("fastloss.cli.eval.plan.survey._MOST_KEPT", kept)
    opened.clear()
    assert figures(evaluate("x", "y")) == expected
    again = len(SIZES) - max(kept, 1)
    assert len(opened) == 2 * (len(SIZES) + again)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--top-k", 8], "--top-k: 8 of 7 classes"),
        (["--top-k", 0], "argument --top-k: must be at least 1, not 0"),
        (["--seed", -1], "argument --seed: must lie in [0, 2**128), not -1"),
        (["--resume"], "--resume: needs the journal of the run: --journal FILE, or its --output, "),
        (["--workers", 1, "--scheduler", "a"], "--workers: a scheduler has its own workers"),
        (["--per-sample", "a", "--reduction", "none", "--output", "b"], "--per-sample: --reduction none writes"),
        (
            ["--per-sample", "a", "--report", "a"],
            "--output, --per-sample, --per-document, --report and --journal are different files",
        ),
        (["--per-sample", "y/step7_labels_0003.npy"], "y/step7_labels_0003.npy: is also an input"),
    ],
)
def test_options(error, folder, options, problem):
    save(folder, *data())
    assert error("x", "y", *options).startswith(problem)


def test_options_for_classes_only(error, folder):
    save(folder, [np.ones((4, 2))], [np.zeros((4, 2))])
    mse = ["x.npy", "y.npy", "--loss", "mse_loss"]
    assert error(*mse, "--top-k", 1).startswith("--top-k: mse_loss has no class labels")
    assert error(*mse, "--axis", 0, "--bootstrap", 5) == "--bootstrap: cannot be combined with --axis"
    assert error(*mse, "--axis", 0, "--report", "r.html") == "--report: cannot be combined with --axis"
    message = error("x.npy", "y.npy", "--loss", "rmse_loss", "--per-sample", "a.npy")
    assert message.startswith("--per-sample: rmse_loss has no losses of single rows")


# Sums without rounding.


@pytest.mark.parametrize(
    "values",
    [
        RNG.normal(size=200_000),
        np.exp(RNG.normal(size=3000) * 100),
        RNG.exponential(size=70_000).astype("f4") ** 5,
        np.array([1e308, 1e308, 5e-324, -1e300, 1.0, 2.0**-1000]),
        RNG.normal(size=100) * 1e-310,
        np.zeros(3),
        np.array([]),
    ],
    ids=["normal", "spread", "float32", "extreme", "subnormal", "zeros", "empty"],
)
def test_sums_are_exact(values):
    total = ExactSum()
    add_all(total, values)
    assert Fraction(total.units, 2**LOWEST) == sum(map(Fraction, values.tolist()))
    for _, part in levels(values[:65536]):
        assert np.all(part == np.rint(part)) and np.abs(part).max() <= 2.0**32


def test_sums_of_infinities():
    for values, expected in (([1, np.inf], "inf"), ([np.inf, -np.inf], "nan"), ([-np.inf], "-inf")):
        total = ExactSum()
        add_all(total, np.array(values, float))
        assert str(float(total)) == expected


# The bootstrap.


def test_frequencies_are_poisson_and_belong_to_their_unit():
    resampling = Resampling(500, 3, "row")
    drawn = frequencies(np.arange(4000), resampling)
    assert drawn.shape == (4000, 500)
    for k in range(6):
        expected = math.exp(-1) / math.factorial(k)
        assert np.mean(drawn == k) == pytest.approx(expected, abs=5 * math.sqrt(expected / drawn.size))
    # neither rows nor resamples have anything to do with each other
    noise = 5 / math.sqrt(3999 * 500)
    for a, b in ((drawn[:-1], drawn[1:]), (drawn[:, :-1], drawn[:, 1:])):
        assert abs(np.mean((a - 1) * (b - 1))) < noise
    some = np.array([2, 3, 7, 1000, 3999])
    np.testing.assert_array_equal(frequencies(some, resampling), drawn[some])
    assert np.mean(frequencies(some, Resampling(500, 4, "row")) == drawn[some]) < 0.5


def test_intervals(evaluate, folder):
    rng = np.random.default_rng(8)
    x = rng.normal(size=(3000, 5)) * 2
    y = rng.integers(0, 5, 3000)
    y[::10] = -100
    save(folder, np.array_split(x, 7), np.array_split(y, 7))
    result = evaluate("x", "y", "--bootstrap", 2000, "--seed", 5)
    each = reference.terms("cross_entropy", x, y).each.astype(float)[y != -100]
    low, high = result["intervals"]["mean"]
    error = each.std() / math.sqrt(each.size)
    # the normal approximation is good here; 2000 resamples leave the ends uncertain by some 4 %
    assert low == pytest.approx(each.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(each.mean() + 1.96 * error, abs=0.2 * error)
    assert result["intervals"]["perplexity"] == pytest.approx(np.exp([low, high]))
    p = result["accuracy"]
    error = math.sqrt(p * (1 - p) / each.size)
    low, high = result["intervals"]["accuracy"]
    assert (p - low, high - p) == pytest.approx((1.96 * error, 1.96 * error), rel=0.12)
    assert result["intervals"]["resamples"] == 2000 and result["intervals"]["seed"] == 5
    again = evaluate("x.npy", "y.npy", "--bootstrap", 2000, "--seed", 5, "--chunk-size", 100)
    assert again["intervals"] == result["intervals"]
    assert evaluate("x", "y", "--bootstrap", 2000)["intervals"] != result["intervals"] | {"seed": 0}


def test_an_interval_is_what_its_resamples_say(evaluate, folder):
    """The same from the definition: repeat each unit as often as it was drawn, and take the mean."""
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(60, 4, 3)), rng.integers(0, 3, (60, 4))
    save(folder, np.array_split(x, 3), np.array_split(y, 3))
    np.save("g.npy", groups := np.arange(60) % 11)
    each = reference.terms("cross_entropy", x, y).each.astype(float)
    shards = np.repeat(np.arange(3), 20)
    for unit, keys in (
        ("row", np.arange(240).reshape(60, 4)),
        ("sample", np.arange(60)[:, None].repeat(4, 1)),
        ("group", groups[:, None].repeat(4, 1)),
        ("shard", shards[:, None].repeat(4, 1)),
    ):
        result = evaluate("x", "y", "--bootstrap", 40, "--resample", unit, "--group-by", "g.npy")
        drawn = frequencies(np.arange(keys.max() + 1), Resampling(40, 0, unit))
        sums = np.array([((each * drawn[keys, b]).sum(), drawn[keys, b].sum()) for b in range(40)])
        sums = sums[sums[:, 1] > 0]  # none of three shards may be drawn
        means = np.sort(sums[:, 0] / sums[:, 1])
        expected = means[int(0.025 * len(means))], means[int(0.975 * len(means))]
        assert result["intervals"]["mean"] == pytest.approx(expected, rel=1e-12)


def test_documents_are_resampled_whole(evaluate, folder):
    rng = np.random.default_rng(10)
    y = rng.normal(size=(100, 1)) * np.ones(50)  # every value of a document is the same
    save(folder, [np.zeros_like(y)], [y])
    widths = []
    for unit in ("row", "sample"):
        low, high = evaluate("x.npy", "y.npy", "--loss", "l1_loss", "--bootstrap", 400, "--resample", unit)[
            "intervals"
        ]["mean"]
        widths.append(high - low)
    assert widths[1] / widths[0] == pytest.approx(math.sqrt(50), rel=0.25)


def test_bootstrap_of_weighted_and_infinite_losses(evaluate, folder):
    x = np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    np.save("x.npy", x)
    np.save("y.npy", np.array([0, 1, 1]))
    np.save("w.npy", np.array([4.0, 4.0]))
    options = ["x.npy", "y.npy", "--loss", "cross_entropy", "--bootstrap", 300]
    weighted, plain = evaluate(*options, "--weight", "w.npy"), evaluate(*options)
    assert weighted["intervals"]["mean"] == pytest.approx(plain["intervals"]["mean"])
    x[0, 0] = -np.inf
    np.save("x.npy", x)
    low, high = evaluate(*options)["intervals"]["mean"]
    assert high == "Infinity" and 0 < low < 3  # in a third of the resamples the row does not occur


# Workers.


@pytest.fixture(scope="module")
def distributed():
    return pytest.importorskip("distributed")


def test_no_more_workers_than_pieces(evaluate, folder, distributed, monkeypatch):
    asked, start = [], distributed.LocalCluster

    def cluster(**settings):
        asked.append(settings["n_workers"])
        return start(**settings)

    monkeypatch.setattr(distributed, "LocalCluster", cluster)
    save(folder, *data())
    alone = evaluate("x.npy", "y.npy")
    assert figures(evaluate("x.npy", "y.npy", "--workers", 100_000)) == figures(alone)
    assert asked == [1]


def test_workers_give_the_same_bits(evaluate, folder, distributed):
    save(folder, *data())
    np.save("g.npy", np.arange(sum(SIZES)) % 3)
    options = ["--bootstrap", 30, "--group-by", "g.npy", "--report", "r.html", "--per-sample"]
    alone = evaluate("x", "y", *options, "a.npy")
    page = Path("r.html").read_text()
    together = evaluate("x", "y", *options, "b.npy", "--workers", 2)
    assert figures(together) == figures(alone)
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes()
    assert Path("r.html").read_text().split("<footer>")[0] == page.split("<footer>")[0]


def test_a_scheduler(evaluate, error, folder, distributed):
    logits, labels = data()
    save(folder, logits, labels)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        assert figures(evaluate("x", "y", "--scheduler", address)) == figures(evaluate("x", "y"))
        labels[4][3] = 50
        np.save("y/step7_labels_0004.npy", labels[4])
        message = error("x", "y", "--scheduler", address)
        assert message == f"{folder}/y/step7_labels_0004.npy: label 50 at [3] is out of range: there are 7 classes"


def test_no_distributed(error, folder, monkeypatch):
    save(folder, *data())
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert error("x", "y", "--workers", 2).endswith("pip install 'fastloss[dask]'")


def test_a_killed_worker_loses_nothing(evaluate, folder, distributed):
    psutil = pytest.importorskip("psutil")
    save(folder, *data(sizes=[1000] * 40))
    options = ["x", "y", "--bootstrap", "2000", "--json"]
    alone = evaluate(*options[:-1])
    process = subprocess.Popen(
        [sys.executable, "-m", "fastloss", "eval", *options, "--workers", "2", "--journal", "j"],
        env={**os.environ, "PYTHONPATH": str(Path(fastloss.__file__).parents[1])},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: lines("j") > 4, process)
        workers = [child for child in psutil.Process(process.pid).children(recursive=True) if is_worker(child)]
        workers[0].send_signal(signal.SIGKILL)
        finished = lines("j")
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    assert finished < 40 and (process.returncode, err) == (0, "")
    assert figures(json.loads(out)) == figures(alone)


def is_worker(process):
    """A child that works, not the one that watches over shared resources."""
    return "multiprocessing.spawn" in (command := " ".join(process.cmdline())) or "forkserver" in command


def lines(path):
    return Path(path).read_bytes().count(b"\n") if Path(path).exists() else 0


def wait_for(condition, process, timeout=120):
    end = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
