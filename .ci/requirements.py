"""What the tests of `.ci/others` need, as lines for `pip install -r`; all of it stands in pyproject.toml.

requirements.py current     as declared
requirements.py lowest      pinned to the lowest versions that are allowed
requirements.py build       the same of what the package is built with
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
# The simulated GPU, the documentation, lint and types have nothing to do with a user's versions.
LEFT_OUT = {"cuda-toolkit", "greenlet", "mypy", "myst-parser", "numba-cuda", "ruff", "sphinx"}


def lines(document, which):
    """One requirement per line."""
    if which == "build":
        return [pinned(each) for each in document["build-system"]["requires"]]
    project = document["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    needed = [each for each in needed if re.match(r"[\w.-]+", each)[0] not in LEFT_OUT]
    return needed if which == "current" else [pinned(each) for each in needed if ">=" in each]


def pinned(requirement):
    """`dask[array]>=2024.1` as `dask[array]==2024.1`."""
    return re.sub(r">=\s*([\d.]+)", r"==\1", requirement)


if __name__ == "__main__":
    (which,) = sys.argv[1:]
    if which not in ("current", "lowest", "build"):
        sys.exit(__doc__)
    print(*lines(tomllib.loads(PYPROJECT.read_text(encoding="utf-8")), which), sep="\n")
