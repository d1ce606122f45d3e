"""CUDA kernels compiled without a GPU: what the code must not contain, whatever it runs on.

No spills and no local memory, registers that leave room for all threads of a block, loads of 16 bytes in the loops that stream, and no
float64 arithmetic there for float32.
"""

import functools
import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
from amounts import mostly_full
from dialect_texts import ACCEPTED

from fastloss import losses
from fastloss.backends.numba_cuda import chosen

if chosen()[0] is None:
    pytest.skip("numba-cuda, of the extra 'cuda', is not installed", allow_module_level=True)
nvjitlink = pytest.importorskip("cuda.bindings.nvjitlink", reason="nvJitLink, of the extra 'cuda', is not installed")

from fastloss.backends.numba_cuda import _compiler, _jit, comparing, details, pointwise, softmax  # noqa: E402
from fastloss.backends.numba_cuda._compiler import cuda, types  # noqa: E402

HOPPER, AMPERE, TURING = (9, 0), (8, 0), (7, 5)
DTYPES = ("float32", "bfloat16", "float16", "float64")

LONG, DOUBLE = types.int64, types.float64
ROWS = (LONG,) * 11 + (DOUBLE, DOUBLE) + (LONG,) * 14 + (DOUBLE,) + (LONG,) * 4 + (DOUBLE, LONG, LONG)
SETTLED = (LONG, LONG, LONG, DOUBLE, DOUBLE, DOUBLE)  # what the kernels of sums end with


@pytest.fixture(autouse=True)
def pretended_device(monkeypatch):
    if _compiler.MLIR:
        monkeypatch.setattr("numba_cuda_mlir.tools._cached_cc", HOPPER)
    else:
        device = SimpleNamespace(compute_capability=HOPPER)
        monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)


def real_of(name):
    return "float64" if name == "float64" else "float32"


@functools.cache
def ptx_of(kernel, signature, capability=HOPPER):
    _compiler.refresh()
    bounds = kernel.targetoptions["launch_bounds"]
    text, _ = cuda.compile_ptx(kernel.py_func, signature, cc=capability, launch_bounds=bounds)
    return text


def resources(ptx, capability=HOPPER):
    """Registers, and bytes of stack and spills, as the assembler reports them."""
    data = ptx.encode()
    handle = nvjitlink.create(2, ["-arch=sm_{}{}".format(*capability), "-verbose"])
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, data, len(data), "kernel")
        nvjitlink.complete(handle)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
        assert nvjitlink.get_linked_cubin_size(handle) > 0
    finally:
        nvjitlink.destroy(handle)
    text = log.decode()
    memory = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", text)
    return int(re.search(r"[Uu]sed (\d+) registers", text).group(1)), [int(n) for n in memory.groups()]


def blocks_of(ptx):
    """Basic blocks as lists of instructions, and the blocks that may follow each."""
    blocks, names = [[]], {}
    for line in (line.strip() for line in ptx.splitlines()):
        if line.startswith("$L") and line.endswith(":"):
            blocks.append([])
            names[line[:-1]] = len(blocks) - 1
        elif line.endswith(";"):
            blocks[-1].append(line)
            if re.search(r"\bbra\b|^ret;", line):
                blocks.append([])
    follow = []
    for i, block in enumerate(blocks):
        last = block[-1] if block else ""
        target = re.search(r"bra(?:\.uni)?\s+(\$L\w+);", last)
        conditional = last.startswith("@") or not target and not last.startswith("ret")
        follow.append({names[target.group(1)]} if target else set())
        if conditional and i + 1 < len(blocks):
            follow[i].add(i + 1)
    return blocks, follow


def loops(ptx, load=r"ld\.global"):
    """The innermost loops that have such a load, as lists of instructions."""
    blocks, follow = blocks_of(ptx)
    everything, todo = {0}, [0]
    while todo:
        new = follow[todo.pop()] - everything
        everything |= new
        todo += new
    before = [{i for i in everything if j in follow[i]} for j in range(len(blocks))]
    dominators = [{0}] + [everything] * (len(blocks) - 1)
    changed = True
    while changed:
        changed = False
        for j in range(1, len(blocks)):
            new = {j} | (set.intersection(*(dominators[i] for i in before[j])) if before[j] else set())
            changed |= new != dominators[j]
            dominators[j] = new
    found = []
    for end in everything:
        for head in follow[end] & dominators[end]:  # an edge back
            body, todo = {head}, [end]
            while todo:
                block = todo.pop()
                if block not in body:
                    body.add(block)
                    todo += before[block]
            found.append(frozenset(body))
    inner = set()
    for i, block in enumerate(blocks):
        around = [body for body in found if i in body]
        if around and any(re.match(load, line) for line in block):
            inner.add(min(around, key=len))
    return [[line for i in sorted(body) for line in blocks[i]] for body in inner]


def check(ptx, name, n_threads, most_registers, vectors, doubles_per_loop=0):
    registers, memory = resources(ptx)
    assert memory == [0, 0, 0], "stack, spill stores, spill loads"
    assert ".local" not in ptx
    assert registers <= most_registers and registers * n_threads <= 65536
    if vectors:
        wide = loops(ptx, r"ld\.global\S*\.v[24]\.")
        assert wide, "no loop loads vectors"
        for loop in wide if real_of(name) == "float32" else []:
            doubles = [
                line for line in loop if re.match(r"(@\S+ )?(add|sub|mul|fma|div|sqrt|min|max|setp)\S*\.f64", line)
            ]
            assert len(doubles) <= doubles_per_loop, "float64 arithmetic in a loop that streams"


def row_kernel(op, second, name, n_rows, n_classes, contiguous=True):
    shape = softmax.shape_of(n_rows, n_classes, name, contiguous, second)
    target = name if op == "dense" else None
    staged = n_classes if contiguous and softmax.is_staged(shape, n_classes) else 0
    kernel = softmax.kernel(op, second, name, target, real_of(name), shape, contiguous, staged)
    return kernel, shape, contiguous and (shape.n > 1 or staged > 0)


FORWARD = list(
    itertools.product(["index"], [softmax.NONE], DTYPES, [(1000000, 10), (100000, 1000), (2048, 128256)])
) + [
    ("score", softmax.NONE, "bfloat16", (4096, 128256)),
    ("rank", softmax.NONE, "float32", (4096, 32000)),
    ("index_spread", softmax.NONE, "float32", (65536, 1000)),
    ("dense", softmax.NONE, "float32", (65536, 1000)),
    ("normalise", softmax.NONE, "float16", (65536, 1000)),
]
GRADIENTS = [
    ("index", softmax.GRADIENT, "float32", (1000000, 10)),
    ("index", softmax.GRADIENT, "bfloat16", (65536, 1000)),
    ("index", softmax.GRADIENT, "float32", (2048, 32000)),
    ("index_spread", softmax.GRADIENT, "float32", (2048, 32000)),
    ("dense", softmax.GRADIENT, "float32", (65536, 1000)),
    ("normalise", softmax.LOGS, "float64", (2048, 32000)),
    ("normalise", softmax.POWERS, "bfloat16", (65536, 1000)),
]
# Each takes seconds to compile.
ROWS_BY_DEFAULT = [
    ("index", softmax.NONE, "float32", (1000000, 10)),
    ("index", softmax.GRADIENT, "bfloat16", (65536, 1000)),
]


@pytest.mark.parametrize(
    ("op", "second", "name", "size"), mostly_full(FORWARD + GRADIENTS, ROWS_BY_DEFAULT.__contains__), ids=str
)
def test_rows(op, second, name, size):
    kernel, shape, vectors = row_kernel(op, second, name, *size)
    n_threads = shape.threads or softmax.GROUP_THREADS
    # where a row is one batch of 32 elements per thread, the loop is that of rows, which merges what threads have of them
    doubles = shape.n * shape.v if shape.once else 0
    check(ptx_of(kernel, ROWS), name, n_threads, 255 if name == "float64" else 168, vectors, doubles)


def test_one_kernel_for_numbers_of_classes_that_are_shared_out_alike():
    kernels = {row_kernel("index", softmax.NONE, "float32", 65536, n)[0] for n in (1000, 1004, 1008, 1012)}
    assert len(kernels) == 1


@pytest.mark.parametrize("name", mostly_full(["bfloat16", "float32"], "bfloat16".__eq__))
def test_columns(name):
    """Classes that are not neighbours: one thread per row, many registers' worth of loads at a time."""
    kernel, _, _ = row_kernel("index", softmax.NONE, name, 2_000_000, 21, contiguous=False)
    ptx = ptx_of(kernel, ROWS)
    check(ptx, name, softmax.GROUP_THREADS, 128, vectors=False)
    assert any(sum(line.startswith("ld.global") for line in loop) >= 8 for loop in loops(ptx))


@pytest.mark.parametrize("template", ["gather", "weigh", "place"])
def test_labels(template):
    signature = {
        "gather": (LONG,) * 19 + (DOUBLE, LONG, LONG, LONG, LONG),
        "weigh": (LONG,) * 11,
        "place": (LONG,) * 13,
    }[template]
    kernel = softmax.by_label(
        template, softmax.GRADIENT if template == "gather" else softmax.NONE, "float32", "float32"
    )
    registers, memory = resources(ptx_of(kernel, signature))
    assert memory == [0, 0, 0] and registers <= 128


@pytest.mark.parametrize("name", mostly_full(["float32", "bfloat16", "float64"], "float32".__eq__))
def test_comparisons(name, request):
    if _compiler.MLIR and name == "float32":
        reason = "8 bytes of each thread are spilled"
        request.applymarker(pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True))
    kernel = comparing.kernel("float32", name, real_of(name))
    registers, memory = resources(ptx_of(kernel, (LONG,) * 21))
    assert memory == [0, 0, 0] and registers * comparing.THREADS <= 65536


DETAILS = [("bfloat16", 256, (8, 2)), ("float32", 32, (4, 4)), ("float32", 256, (1, 16)), ("float64", 256, (2, 8))]


@pytest.mark.parametrize(("name", "n_threads", "shape"), mostly_full(DETAILS, DETAILS[:1].__contains__))
def test_details(name, n_threads, shape):
    kernel = details.kernel(name, real_of(name), n_threads, "int64", shape)
    registers, memory = resources(ptx_of(kernel, (LONG,) * 17))
    assert memory == [0, 0, 0] and registers * n_threads * (1 if name == "float64" else 2) <= 65536


def point_kernel(loss, op, name):
    operands = [(name, "vectors")] * loss.operands + [None] * (4 - loss.operands)
    kernel = pointwise.kernel("vectors", loss, op, real_of(name), tuple(operands))
    given = [LONG] * loss.operands + [DOUBLE] * (4 - loss.operands)
    return kernel, (*given, types.UniTuple(DOUBLE, max(1, len(loss.parameters))), LONG, LONG, DOUBLE, *SETTLED)


POINTS = [(loss, op, "float32") for loss in losses.POINTWISE for op in (pointwise.TOTAL, pointwise.SLOPE)] + [
    (loss, op, name)
    for loss in (losses.MSE, losses.BCE, losses.BCE_LOGITS)
    for op in (pointwise.TOTAL, pointwise.EACH)
    for name in DTYPES[1:]
]


# Two and three operands, loads of each width, a value and a slope.
POINTS_BY_DEFAULT = [
    (losses.GAUSSIAN, pointwise.TOTAL, "float32"),
    (losses.BCE_LOGITS, pointwise.SLOPE, "float32"),
    (losses.MSE, pointwise.EACH, "bfloat16"),
]


@pytest.mark.parametrize(
    ("loss", "op", "name"),
    mostly_full(POINTS, POINTS_BY_DEFAULT.__contains__),
    ids=lambda v: v.name if hasattr(v, "name") else str(v),
)
def test_pointwise(loss, op, name, request):
    long = ("sigmoid_focal", "sigmoid_focal_squared", "tweedie_low", "tweedie_high")
    if loss.name in long and op in (pointwise.TOTAL, pointwise.SLOPE):
        reason = "keeps 32 bytes of each thread in local memory, as its loop over a thread's elements is too long to be unrolled"
        request.applymarker(pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True))
    kernel, signature = point_kernel(loss, op, name)
    check(ptx_of(kernel, signature), name, pointwise.THREADS, 128, vectors=True)


@pytest.mark.parametrize("template", ["strided", "lanes"])
def test_strided(template):
    two = types.UniTuple(LONG, 2)
    kernel = pointwise.kernel(
        template, losses.HUBER, pointwise.TOTAL, "float32", (("float32", "elements"),) * 2 + (None, None)
    )
    signature = {
        "strided": (LONG, LONG, DOUBLE, DOUBLE, types.UniTuple(DOUBLE, 1), LONG, *(two,) * 5, LONG, DOUBLE, *SETTLED),
        "lanes": (
            LONG,
            LONG,
            DOUBLE,
            DOUBLE,
            types.UniTuple(DOUBLE, 1),
            LONG,
            *(two,) * 5,
            LONG,
            *(two,) * 5,
            LONG,
            LONG,
            DOUBLE,
            DOUBLE,
            DOUBLE,
        ),
    }[template]
    _, memory = resources(ptx_of(kernel, signature))
    assert memory[1:] == [0, 0]


@pytest.mark.parametrize("real", mostly_full(["float32", "float64"], "float32".__eq__))
def test_texts_in_the_dialect(real):
    """Numba compiles all that the dialect has, and float32 stays float32."""
    purposes = {}
    for number, text in enumerate(ACCEPTED.values()):
        formula = _jit.formulas(real, (), text)["f"]
        holes = {"formula": formula, "Real": np.dtype(real).type}
        purposes[f"f{number}"] = _jit.inlined(_jit.called_with(2, 0), f"{number}_{real}", **holes)
    lines = "\n".join(f"    out[{number}] = f{number}(x, y, x, p)" for number in range(len(purposes)))
    namespace = dict(purposes)
    _compiler.refresh()
    exec(f"def kernel(x, y, p, out):\n{lines}\n", namespace)
    one = getattr(types, real)
    ptx, _ = cuda.compile_ptx(namespace["kernel"], (one, one, types.UniTuple(DOUBLE, 1), one[::1]), cc=HOPPER)
    assert ptx.count("st.global") >= len(purposes)
    if real == "float32":
        assert not re.search(r"\b(add|sub|mul|fma|div|sqrt|min|max|setp)\S*\.f64", ptx)


OF_EVERY_KIND = {
    "index": lambda: (row_kernel("index", softmax.NONE, "bfloat16", 2048, 32000)[0], ROWS),
    "score": lambda: (row_kernel("score", softmax.NONE, "float32", 65536, 1000)[0], ROWS),
    "gradient": lambda: (row_kernel("index", softmax.GRADIENT, "float16", 1000000, 10)[0], ROWS),
    "slope": lambda: point_kernel(losses.BCE_LOGITS, pointwise.SLOPE, "bfloat16"),
    "total": lambda: point_kernel(losses.MSE, pointwise.TOTAL, "float16"),
}
ON_OLDER_DEVICES = [(capability, kind) for kind in OF_EVERY_KIND for capability in (AMPERE, TURING)]


@pytest.mark.parametrize(
    ("capability", "kind"), mostly_full(ON_OLDER_DEVICES, [(TURING, "total")].__contains__), ids=str
)
def test_older_devices(capability, kind):
    """Everything compiles for the devices that are supported."""
    ptx = ptx_of(*OF_EVERY_KIND[kind](), capability)
    assert ".target sm_{}{}".format(*capability) in ptx
    assert np.isfinite(resources(ptx, capability)[0])


def test_the_checks_can_fail():
    """A kernel with an array that is indexed at run time, and with float64 in its loop, is told from a good one."""

    def bad(x, n, out):
        values = cuda.local.array(64, types.float32)
        for i in range(n):
            values[i % 64] = x[i]
            out[0] += types.float64(values[(i * 7) % 64])

    ptx, _ = cuda.compile_ptx(bad, (types.float32[::1], LONG, types.float64[::1]), cc=HOPPER)
    assert ".local" in ptx and resources(ptx)[1][0] > 0
    assert any(".f64" in line for loop in loops(ptx) for line in loop)
