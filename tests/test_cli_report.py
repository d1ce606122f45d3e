"""The page of `--report`: its figures, its escapes, and what a real browser makes of it."""

import base64
import hashlib
import http.server
import json
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import reference

import fastloss
from fastloss.cli import main
from fastloss.cli.eval.show.charts import bars, histogram, quantiles
from fastloss.cli.eval.stats.distribution import BINS, Histogram
from fastloss.cli.eval.stats.sums import Place, Rows

PLACE = Place(0, 0, 0, 0, 1)
VOID = {"meta", "br", "hr", "img", "link", "input"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Page(HTMLParser):
    """Elements of a page; tags have to be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.tables, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def table(self, first):
        """The rows below the heading that begins with `first`."""
        return next(table[1:] for table in self.tables if table[0][0] == first)


@pytest.fixture
def report(capsys):
    def run(*arguments):
        code = main(["eval", *map(str, arguments), "--report", "page.html", "--json"])
        captured = capsys.readouterr()
        assert (code, captured.err) == (0, "")
        text = Path("page.html").read_text()
        return json.loads(captured.out), Page(text), text

    return run


def classes(folder, n=900, options=()):
    rng = np.random.default_rng(50)
    x, y = rng.normal(size=(n, 6)) * 2, rng.integers(0, 6, n)
    x[np.arange(0, n, 2), y[::2]] += 4
    y[::25] = -100
    for i, (a, b) in enumerate(zip(np.array_split(x, 3), np.array_split(y, 3), strict=True)):
        np.save(f"x{i}.npy", a)
        np.save(f"y{i}.npy", b)
    return x, y


def expected_calibration(p, hit):
    """The definition, bin by bin."""
    total = 0.0
    for i in range(BINS):
        inside = (p > i / BINS) & (p <= (i + 1) / BINS)
        if inside.any():
            total += inside.sum() * abs(p[inside].mean() - hit[inside].mean())
    return total / len(p)


def error_on(text):
    return float(re.search(r"Expected calibration error ([0-9.e-]+)", text)[1])


def test_classes(folder, report):
    x, y = classes(folder)
    np.save("g.npy", np.arange(900) % 2)
    result, page, text = report("x*.npy", "y*.npy", "--group-by", "g.npy", "--bootstrap", 50, "--top-k", 2)
    each, counted = reference.terms("cross_entropy", x, y).each.astype(float), y != -100
    probs = reference.softmax(x).astype(float)
    p, hit = probs.max(axis=1), x.argmax(axis=1) == y
    assert error_on(text) == pytest.approx(expected_calibration(p[counted], hit[counted]), rel=1e-3)
    for row in page.table("probability"):
        low, high = map(float, row[0].split(" to "))
        inside = counted & (p > low - 0.005) & (p <= high + 0.005)
        assert abs(int(row[1]) - inside.sum()) <= counted.sum() * 0.05
    assert sum(int(row[1]) for row in page.table("probability")) == counted.sum()

    worst = np.argsort(-each, kind="stable")[:20]
    rows = page.table("file")
    assert len(rows) == 20
    for row, i in zip(rows, worst, strict=True):
        assert row[:4] == [f"x{i // 300}.npy", f"[{i % 300}]", str(y[i]), str(x[i].argmax())]
        assert float(row[4]) == pytest.approx(p[i], rel=1e-3) and float(row[5]) == pytest.approx(each[i], rel=1e-3)

    groups = page.table("group")
    assert [float(row[1]) for row in groups] == pytest.approx([g["mean"] for g in result["groups"]], rel=1e-3)
    assert sum(int(row[1]) for row in page.table("loss")) == counted.sum()
    for share, loss in page.table("share of rows"):
        exact = np.quantile(each[counted], float(share[:-1]) / 100, method="inverted_cdf")
        assert float(loss) == pytest.approx(exact, rel=0.05)
    assert "top-2 accuracy" in text and "Poisson bootstrap by row, 50 resamples, seed 0" in text


def test_binary(folder, report):
    rng = np.random.default_rng(51)
    x = rng.normal(size=500) * 2
    y = rng.random(500) < 1 / (1 + np.exp(-1.5 * x))
    np.save("x.npy", x)
    np.save("y.npy", y)
    np.save("p.npy", p := 1 / (1 + np.exp(-x)))
    for name in ("x.npy", "p.npy"):
        _, page, text = report(name, "y.npy")
        assert error_on(text) == pytest.approx(expected_calibration(p, y), rel=1e-3)
        assert sum(int(row[1]) for row in page.table("probability")) == 500
    assert "share of ones" in text


@pytest.mark.parametrize("form", ["probs", "log_probs", "distributions", "float16", "axis"])
def test_confidence_of_every_form(folder, report, form):
    x, y = classes(folder)
    y[y == -100] = 0
    probs = reference.softmax(x).astype(float)
    options = []
    if form == "probs":
        x = probs
    elif form == "log_probs":
        x, options = np.log(probs), ["--loss", "nll_loss"]
    elif form == "distributions":
        options = ["--loss", "cross_entropy"]
    elif form == "float16":
        x = x.astype("f2")
        probs = reference.softmax(x).astype(float)
    target = np.eye(6)[y] if form == "distributions" else y
    if form == "axis":
        x, target, options = x.T.reshape(1, 6, 900), target[None], ["--axis", 1]
    np.save("x.npy", x)
    np.save("y.npy", target)
    _, _, text = report("x.npy", "y.npy", *options)
    assert error_on(text) == pytest.approx(expected_calibration(probs.max(axis=1), probs.argmax(axis=1) == y), rel=2e-3)


def test_regression_has_no_calibration(folder, report):
    rng = np.random.default_rng(52)
    np.save("x.npy", x := rng.normal(size=(40, 3)))
    np.save("y.npy", y := rng.normal(size=(40, 3)))
    _, page, text = report("x.npy", "y.npy", "--loss", "l1_loss")
    assert "Calibration" not in text
    at = np.unravel_index(np.argmax(abs(x - y)), x.shape)
    assert page.table("file")[0][1] == f"[{at[0]}, {at[1]}]"


def test_nothing_counted_and_infinite_losses(folder, report):
    np.save("x.npy", np.zeros((3, 2)))
    np.save("y.npy", np.full(3, -100))
    _, _, text = report("x.npy", "y.npy")
    assert "No finite loss was counted" in text
    np.save("x.npy", np.array([[0.0, -np.inf], [0, 0], [0, 0]]))
    np.save("y.npy", np.array([1, 0, 0]))
    _, page, _ = report("x.npy", "y.npy", "--loss", "cross_entropy")
    assert page.table("file")[0][-1] == "inf"
    np.save("y.npy", np.zeros(3))
    np.save("x.npy", np.zeros(3))
    _, page, _ = report("x.npy", "y.npy", "--loss", "mse_loss")  # all losses are 0
    assert sum(int(row[1]) for row in page.table("loss")) == 3


def test_against_another_model(folder, report):
    """The charts' numbers, from tables beside them, against what `compare` finds in each row."""
    rng = np.random.default_rng(3)
    r = rng.normal(0, 2, (3_000, 8)).astype(np.float32)
    x, y = r + rng.normal(0, 0.3, r.shape).astype(np.float32), rng.integers(0, 8, 3_000)
    y[::10] = -100
    np.save("x.npy", x), np.save("y.npy", y), np.save("r.npy", r)
    _, page, text = report("x.npy", "y.npy", "--against", "r.npy")
    counted = np.flatnonzero(y != -100)
    found = fastloss.compare(r[counted], x[counted], y[counted])

    assert sum(int(row[1]) for row in page.table("divergence")) == counted.size
    p = np.exp(-found.reference_nll.astype(float))
    for i, (_, rows, mean, root) in enumerate(page.table("reference's probability")):
        change = found.delta_p[np.clip((p * 20).astype(int), 0, 19) == i].astype(float)
        assert int(rows) == change.size
        if change.size:
            assert float(mean) == pytest.approx(change.mean(), rel=1e-3, abs=1e-8)
            assert float(root) == pytest.approx(np.sqrt((change**2).mean()), rel=1e-3)
    order = np.argsort(-found.kl, kind="stable")[:20]
    tables = [table for table in page.tables if "reference's most likely class" in table[0]]
    for row, i in zip(tables[0][1:], order, strict=True):
        at = int(counted[i])
        assert row[:5] == ["x.npy", f"[{at}]", str(y[at]), str(r[at].argmax()), str(x[at].argmax())]
        assert float(row[5]) == pytest.approx(found.delta_p[i], rel=1e-3) and float(row[6]) == pytest.approx(
            found.kl[i], rel=1e-3
        )
    for chart in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(chart)
    identifiers = re.findall(r'id="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers)) == 8


def test_a_model_against_itself(folder, report):
    """Nothing has changed: no chart divides by it."""
    x, y = classes(folder, 50)
    np.save("x.npy", x), np.save("y.npy", y)
    _, _, text = report("x.npy", "y.npy", "--against", "x.npy")
    assert "The rows that changed most" in text and "nan" not in text


def test_everything_is_escaped(folder, report):
    evil = "<script>alert('x')</script>&\"\x07"
    x, y = classes(folder, 30)
    names = [f"{evil.replace('/', '')}{n}.npy" for n in "xy"]
    np.save(names[0], x)
    np.save(names[1], y)
    Path("g.json").write_text(json.dumps([evil, "<b>"] * 15))
    _, page, text = report(*names, "--group-by", "g.json")
    assert [tag for tag, _ in page.tags if tag in ("script", "b")] == ["script"]  # the page's own
    assert text.count("<script") == 1 and "alert('x')" not in text and "\x07" not in text
    assert [row[0] for row in page.table("group")] == ["<b>", evil.replace("\x07", "\\x07")]


def test_the_page_stands_alone(folder, report):
    classes(folder)
    _, page, text = report("x*.npy", "y*.npy")
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert not {"src", "href", "srcset", "action"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in text and "@import" not in text and "http" not in text.replace("http-equiv", "")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = next(attributes for _, attributes in page.tags if "http-equiv" in attributes)
    assert len(scripts) == 1 and f"script-src 'sha256-{digest}'" in policy["content"]
    assert policy["content"].startswith("default-src 'none';") and "prefers-color-scheme: dark" in text
    # charts can be read without seeing them
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) == 2
    for chart in charts:
        root = ElementTree.fromstring(chart)
        names = root.attrib["aria-labelledby"].split()
        assert root.attrib["role"] == "img"
        assert [child.attrib["id"] for child in root[:2]] == names and all(child.text for child in root[:2])


# What the histogram makes of losses.


DISTRIBUTIONS = {
    "plain": np.random.default_rng(53).exponential(size=5000),
    "spread": np.random.default_rng(54).exponential(size=5000) ** 9,
    "signed": np.random.default_rng(55).normal(size=5000),
    "negative": -np.random.default_rng(55).exponential(size=5000),
    "zeros": np.zeros(7),
    "two": np.concatenate((np.zeros(500), np.ones(500))),
    "far": np.array([0.0] * 8 + [1000.0] * 2),
    "zeros and spread": np.concatenate((np.zeros(50), np.random.default_rng(57).exponential(size=500) ** 9)),
    "all but a few zero": np.concatenate((np.zeros(100_000), np.full(5, 1000.0))),
    "a few negative": np.concatenate((-np.ones(2), np.random.default_rng(60).exponential(size=9000) ** 9)),
    "one": np.full(10, 3.0),
    "close": 0.7 + np.random.default_rng(58).random(100) * 1e-6,
    "closest": np.nextafter(0.7, np.arange(3)),
    "far below": -np.full(10, 1e200),
    "extreme": np.array([1e-40, 1e38, 1e300]),
    "largest": np.array([-1.7e308, 1.7e308, 5e-324]),
    "least": np.array([5e-324, 1e-320]),
    "infinite": np.array([-1.0, np.inf, -0.0]),
    "infinities": np.array([-np.inf, 2.0, np.inf, np.inf]),
    "float32": np.random.default_rng(59).exponential(size=300).astype("f4"),
}


def filled(values):
    found = Histogram()
    found.add(Rows(values), PLACE)
    return found


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_histogram(values):
    whole, parts = filled(values), Histogram()
    for piece in np.array_split(values, 3):
        parts.merge(Histogram.from_json(json.loads(json.dumps(filled(piece).to_json()))))
    buckets = whole.buckets()
    assert parts.buckets() == buckets
    values = np.sort(values.astype("f8"))
    finite = values[np.isfinite(values)]
    assert sum(count for *_, count in buckets) == values.size
    for (low, high, count), (following, *_) in zip(buckets, [*buckets[1:], (np.inf,)], strict=True):
        assert low <= high <= following
        assert low == high or high - low <= 0.04 * max(abs(low), abs(high)) + 1e-308
        inside = ((values > low) & (values < high)).sum(), ((values >= low) & (values <= high)).sum()
        assert inside[0] <= count <= inside[1]
    shown = bars(buckets)
    assert sum(shown.counts) + shown.zeros == pytest.approx(finite.size) and len(shown.counts) == 40
    assert np.all(np.diff(shown.edges) > 0) and min(shown.counts) >= 0
    assert np.all(np.isfinite(shown.edges))
    for share, loss in quantiles(buckets):
        exact = values[min(values.size - 1, int(np.ceil(share * values.size)) - 1)]
        assert loss == exact or loss == pytest.approx(exact, rel=0.04, abs=1e-308)
        assert values[0] <= loss <= values[-1]
    chart = ElementTree.fromstring(histogram(shown))
    for tick in ticks(chart):
        assert float(f"{tick:.3g}") == tick
        assert shown.edges[0] <= tick <= shown.edges[-1] or shown.zeros and tick == 0
    assert 2 <= len(ticks(chart)) <= 9 or shown.edges[-1] < 1e-300


def ticks(chart):
    """The numbers below the chart."""
    labels = [element for element in chart.iter("text") if element.get("text-anchor") in ("middle", "end")]
    return [float(label.text) for label in labels if label.get("y") == "251"]


def drawn(values):
    """Lower and upper edges of the bars that hold something, and their counts."""
    shown = bars(filled(np.asarray(values)).buckets())
    found = [(0.0, 0.0, shown.zeros)] if shown.zeros else []
    found += zip(shown.edges, shown.edges[1:], shown.counts, strict=False)
    return [(low, high, round(count)) for low, high, count in found if count], shown


def test_bars_are_where_the_losses_are():
    found, shown = drawn([0.0] * 8 + [1000.0] * 2)
    assert found == [(0, 25, 8), (975, 1000, 2)] and not shown.logarithmic
    assert dict(quantiles(filled(np.array([0.0] * 8 + [1000.0] * 2)).buckets()))[0.5] == 0

    found, shown = drawn(
        [0.0] * 8 + [1e-6, 1.0, 1000.0]
    )  # zeros have no place on a logarithmic axis, but one beside it
    assert shown.logarithmic and found[0] == (0, 0, 8) and [count for *_, count in found[1:]] == [1, 1, 1]

    for value in (3.0, -3.0, 0.7, 1e-300, 1e300):  # one value is in the middle, and is its own quantile
        found, shown = drawn([value] * 10)
        assert len(found) == 1 and found[0][0] <= value <= found[0][1] and found[0][2] == 10
        assert {loss for _, loss in quantiles(filled(np.full(10, value)).buckets())} == {value}
    assert drawn([0.0] * 7)[0] == [(0, 0.025, 7)]

    found, shown = drawn(np.full(9, 0.7) + np.arange(9) * 1e-9)  # closer than can be told
    assert len(found) <= 2 and 0.5 < shown.edges[0] < 0.7 < shown.edges[-1] < 0.9


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1000.0], ["0", "200", "400", "600", "800", "1000"]),
        (np.geomspace(5.09e-6, 8, 100), ["1e-05", "0.0001", "0.001", "0.01", "0.1", "1"]),
        (np.geomspace(0.15, 9, 100), ["0.2", "0.5", "1", "2", "5"]),
        (np.geomspace(1e-30, 1e30, 100), ["1e-27", "1e-18", "1e-09", "1", "1e+09", "1e+18", "1e+27"]),
        (np.linspace(-0.3, 0.4, 99), ["-0.2", "0", "0.2", "0.4"]),
    ],
    ids=["linear", "decades", "few decades", "many decades", "signed"],
)
def test_ticks_are_round(values, expected):
    chart = ElementTree.fromstring(histogram(bars(filled(np.asarray(values)).buckets())))
    labels = [e.text for e in chart.iter("text") if e.get("y") == "251"]
    assert labels == expected
    counts = [e.text for e in chart.iter("text") if e.get("x") == "56"]
    assert counts == [str(int(text)) for text in counts]  # there are no halves of rows


def test_infinite_losses_are_counted(folder, report):
    x = np.zeros((10, 2))
    x[:6, 0] = -np.inf
    np.save("x.npy", x)
    np.save("y.npy", np.zeros(10, int))
    _, page, text = report("x.npy", "y.npy", "--loss", "cross_entropy")
    assert "6 losses are infinite: counted in the quantiles, not drawn." in text
    shares = dict(page.table("share of rows"))
    assert shares["25%"] == "0.6931" and shares["50%"] == shares["99%"] == "inf"
    rows = page.table("loss")
    assert rows[-1] == ["infinite", "6"] and sum(int(row[1]) for row in rows) == 10


def test_bars_of_a_plain_distribution():
    values = np.random.default_rng(56).uniform(1, 3, 200_000)
    shown = bars(filled(values).buckets())
    assert not shown.logarithmic and shown.edges[0] <= 1.04 and shown.edges[-1] >= 2.95
    expected = np.histogram(values, shown.edges)[0]
    # a bar's neighbours may get some of its buckets' counts
    np.testing.assert_allclose(
        np.convolve(shown.counts, np.ones(5), "valid"), np.convolve(expected, np.ones(5), "valid"), rtol=0.25
    )


# In a browser.

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Requests(http.server.BaseHTTPRequestHandler):
    """Serves the page, and notes what is asked for."""

    def do_GET(self):
        self.server.asked.append(self.path)
        body = Path("page.html").read_bytes() if self.path == "/page.html" else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def browse(folder, address, *options):
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,1600",
        "--disable-background-networking", "--disable-component-update", "--no-first-run",
        f"--user-data-dir={folder / 'profile'}", *options, address,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_in_a_browser(folder, report):
    image = pytest.importorskip("PIL.Image", reason="needs pillow")
    classes(folder)
    report("x*.npy", "y*.npy")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/page.html"
    try:
        log = folder / "net.json"
        dom = browse(folder, address, "--dump-dom", f"--log-net-log={log}").stdout
        shots = {}
        for scheme, value in (("dark", 0), ("light", 1)):
            browse(
                folder, address, f"--blink-settings=preferredColorScheme={value}", f"--screenshot={folder / scheme}.png"
            )
            shots[scheme] = np.asarray(image.open(folder / f"{scheme}.png").convert("RGB")).astype(int)
    finally:
        server.shutdown()
        server.server_close()
    assert set(server.asked) <= {"/page.html", "/favicon.ico"} and "/page.html" in server.asked
    asked = set(re.findall(r'"url":"(https?://[^"/]+)', log.read_text()))
    assert f"http://127.0.0.1:{server.server_port}" in asked
    assert dom.count("<svg") == 2 and "Content Security Policy" not in dom
    for scheme, shot in shots.items():
        ground = (20, 24, 29) if scheme == "dark" else (255, 255, 255)
        mark = (99, 164, 232) if scheme == "dark" else (43, 108, 176)
        assert tuple(shot[5, 5]) == ground
        assert (np.abs(shot - mark).sum(axis=2) < 12).sum() > 5000  # the bars are painted
