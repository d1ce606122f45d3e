"""The stub of `functional`: each function's overloads, derived from its signature and its row in the table.

`python tests/stubs.py` writes `fastloss/functional.pyi`; tests/test_types.py says when that is due.
"""

import ast
import subprocess
import sys
from pathlib import Path

from fastloss import losses

PACKAGE = Path(losses.__file__).parent
STUB = PACKAGE / "functional.pyi"

HEADER = '''"""What type checkers see of `functional`; written by tests/stubs.py."""

from collections.abc import Callable
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from fastloss import losses
from fastloss._comparison import Comparison
from fastloss._scores import Scores
from fastloss._types import AnyArray, DeviceT, LazyT, OutT, Real, RealArray
'''


class Signature:
    """The parameters of a public function, as its definition has them."""

    def __init__(self, definition):
        arguments = definition.args
        n_given = len(arguments.args) - len(arguments.defaults)
        pairs = list(zip(arguments.args, [None] * n_given + arguments.defaults, strict=True))
        self.n_positional = len(pairs)
        pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        self.name = definition.name
        self.types = {argument.arg: ast.unparse(argument.annotation) for argument, _ in pairs}
        self.given = {argument.arg for argument, default in pairs if default is None}  # which have no default
        for name, type_ in self.types.items():  # arrays of any library go together
            self.types[name] = type_.replace("ArrayLike", "AnyArray")

    def stub(self, returns, required=(), **types):
        """The function with these types of some parameters, of which those `required` have no default."""
        parameters = []
        for i, (name, known) in enumerate(self.types.items()):
            if i == self.n_positional:
                parameters.append("*")
            default = "" if name in self.given or name in required else " = ..."
            parameters.append(f"{name}: {types.get(name, known)}{default}")
        return f"def {self.name}({', '.join(parameters)}) -> {returns}: ..."


def overloads(signature, function):
    """What the function returns, by what it is given; arrays of other libraries come first, as many can be made NumPy's."""
    first = function.arrays[0]
    host = {first: "ArrayLike"}
    options = {option.name: option for option in function.options}
    if function.family in ("scores", "comparison", "forecasts"):
        yield signature.stub({"scores": "Scores", "comparison": "Comparison"}.get(function.family, "np.float64"))
        return
    general = "RealArray" if function.family == "normalised" and "keepdims" not in options else "Real | RealArray"
    yield signature.stub("LazyT", **{first: "LazyT"}, out="None")
    yield signature.stub(f"DeviceT | {general}", **{first: "DeviceT"}, out="None")
    if "reduction" in options:
        over_all = {"axis": "None"} if options.get("axis") is losses.AXES else {}
        words = ", ".join(f'"{name}"' for name in options["reduction"].choices if name != "none")
        one = {"reduction": f"Literal[{words}]", "out": "None", **over_all}
        yield signature.stub("Real", **host, **one)
        if "none" in options["reduction"].choices:
            each = {"reduction": 'Literal["none"]', "out": "None", **over_all}
            yield signature.stub("RealArray", required=("reduction",), **host, **each)
    elif "keepdims" in options:
        yield signature.stub("RealArray", required=("keepdims",), **host, keepdims="Literal[True]", out="None")
    yield signature.stub(general, **host, out="None")
    yield signature.stub("OutT", required=("out",), out="OutT")


def text():
    """The stub, formatted as the package is."""
    module = ast.parse((PACKAGE / "functional.py").read_text())
    defined = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    names = "\n".join(f'    "{function.name}",' for function in losses.FUNCTIONS)
    parts = [HEADER, f"__all__ = [\n{names}\n]"]
    for function in losses.FUNCTIONS:
        found = list(overloads(Signature(defined[function.name]), function))
        parts += [f"@overload\n{stub}" for stub in found] if len(found) > 1 else found
    parts += ["LOSSES: dict[Callable[..., object], losses.Loss]", "def loss_of(fn: object) -> losses.Loss | None: ..."]
    return _formatted("\n".join(parts))


def _formatted(text):
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(STUB), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    STUB.write_text(text())
