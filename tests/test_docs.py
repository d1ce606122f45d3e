"""The pages of docs/ name every public function, link to what exists, and build without a warning."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import fastloss
from fastloss import losses

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WRITTEN = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "bench/README.md"])


def test_the_catalogue_has_every_function():
    rows = [line for line in (DOCS / "functions.md").read_text().splitlines() if line.startswith("| `")]
    listed = Counter(name for row in rows for name in re.findall(r"`(\w+)(?:\(.*?\))?`", row.split(" | ")[0]))
    assert listed == Counter(function.name for function in losses.FUNCTIONS)


def test_the_reference_has_every_public_name():
    pages = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    listed = Counter(re.findall(r"^\.\. auto(?:function|class):: (\w+)$", pages, re.MULTILINE))
    assert listed == Counter(name for name in fastloss.__all__ if name != "__version__")


def anchors(page):
    """What GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_build(tmp_path):
    for needed in ("sphinx", "myst_parser"):
        pytest.importorskip(needed)
    command = [sys.executable, "-m", "sphinx", "-q", "--fail-on-warning", "--keep-going", str(DOCS), str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    softmax = (tmp_path / "api/softmax.html").read_text()
    assert 'id="fastloss.cross_entropy"' in softmax and "label_smoothing" in softmax


def test_the_citation_has_the_version():
    assert f"\nversion: {fastloss.__version__}\n" in (ROOT / "CITATION.cff").read_text()
