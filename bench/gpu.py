"""Measure fastloss on a GPU: correctness first, then bandwidth and peers, one table last.

    pip install '.[cuda,torch,test]' && python bench/gpu.py [--seconds S] [--without CONTENDER] [--output FILE.json]
        [--skip-tests]

Roofs are measured in the same run: a read-only sum and a device-to-device copy of the same size.  Every case runs over buffers that
together exceed the second-level cache several times, contenders take turns, times are device events' and ratios are medians of rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import fastloss

BYTES = 1 << 30  # of logits a case, about
ROTATION = 4  # times the second-level cache that the buffers of a case take together, at least
READ, COPY = "read", "copy"


class Case:
    """A call: how its inputs are made, and what each contender does with them."""

    def __init__(self, name, make, ours, peer, roof=READ, peers=None):
        self.name, self.make, self.roof = name, make, roof
        self.contenders = {"fastloss": ours, "torch": peer, "torch.compile": None, **(peers or {})}


def cross_entropy(n_classes, dtype, gradient=False):
    size = torch.finfo(dtype).bits // 8
    n_rows = max(64, min(BYTES // (n_classes * size), 1 << 26))

    def make():
        x = torch.randn(n_rows, n_classes, device="cuda", dtype=torch.float32).mul_(3).to(dtype)
        return x, torch.randint(0, n_classes, (n_rows,), device="cuda")

    kind = str(dtype).removeprefix("torch.")
    if not gradient:
        peers = {"quack": quack_forward} if quack_forward else {}
        name = f"cross_entropy {n_rows}x{n_classes} {kind}"
        return Case(name, make, fastloss.cross_entropy, F.cross_entropy, peers=peers)
    ours = fastloss.value_and_grad(fastloss.cross_entropy)
    peers = {"liger": liger_step} if liger_step else {}
    return Case(
        f"cross_entropy {n_rows}x{n_classes} {kind} and gradient", make, ours, backward(F.cross_entropy), COPY, peers
    )


def backward(function):
    def step(x, y):
        x = x.detach().requires_grad_()
        function(x, y).backward()
        return x.grad

    return step


def images():
    def make():
        return torch.randn(8, 21, 1024, 1024, device="cuda"), torch.randint(0, 21, (8, 1024, 1024), device="cuda")

    return Case(
        "cross_entropy 8x21x1024x1024 axis=1", make, lambda x, y: fastloss.cross_entropy(x, y, axis=1), F.cross_entropy
    )


def elementwise(name, ours, peer, inputs, dtype=torch.float32, gradient=False):
    n = BYTES // 8

    def make():
        return tuple(a.to(dtype) for a in inputs(n))

    kind = str(dtype).removeprefix("torch.")
    if gradient:
        return Case(f"{name} {n} {kind} and gradient", make, fastloss.value_and_grad(ours), backward(peer), COPY)
    return Case(f"{name} {n} {kind}", make, ours, peer)


def reals(n):
    return torch.randn(n, device="cuda"), torch.randn(n, device="cuda")


def labels(n):
    return torch.randn(n, device="cuda"), torch.randint(0, 2, (n,), device="cuda").float()


def probabilities(n):
    return torch.rand(n, device="cuda"), torch.randint(0, 2, (n,), device="cuda").float()


try:
    from quack.cross_entropy import cross_entropy_fwd as _quack

    def quack_forward(x, y):
        return _quack(x, y)
except ImportError:
    quack_forward = None

try:
    from liger_kernel.transformers.functional import liger_cross_entropy as _liger

    liger_step = backward(lambda x, y: _liger(x.clone(), y))  # it overwrites its input
except ImportError:
    liger_step = None


def cases():
    for dtype in (torch.float32, torch.bfloat16):
        for n_classes in (2, 10, 256, 1000, 32000, 128256, 262144):
            yield cross_entropy(n_classes, dtype)
    yield images()
    logits = fastloss.binary_cross_entropy_with_logits
    yield elementwise("binary_cross_entropy_with_logits", logits, F.binary_cross_entropy_with_logits, labels)
    yield elementwise(
        "binary_cross_entropy_with_logits", logits, F.binary_cross_entropy_with_logits, labels, torch.bfloat16
    )
    yield elementwise("binary_cross_entropy", fastloss.binary_cross_entropy, F.binary_cross_entropy, probabilities)
    yield elementwise("mse_loss", fastloss.mse_loss, F.mse_loss, reals)
    yield cross_entropy(1000, torch.float32, gradient=True)
    yield cross_entropy(32000, torch.bfloat16, gradient=True)
    yield elementwise("mse_loss", fastloss.mse_loss, F.mse_loss, reals, gradient=True)


def n_bytes(tensors):
    return sum(t.numel() * t.element_size() for t in tensors)


def timed(function, buffers):
    """Milliseconds a call over all buffers, by device events."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for arguments in buffers:
        function(*arguments)
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / len(buffers)


def measure(case, seconds, without):
    """Medians of milliseconds and of paired ratios to fastloss, and the share of the roof."""
    first = case.make()
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    buffers = [first] + [case.make() for _ in range(max(1, -(-ROTATION * cache // n_bytes(first)) - 1))]
    contenders = {name: function for name, function in case.contenders.items() if name not in without}
    if "torch.compile" in contenders:
        contenders["torch.compile"] = torch.compile(case.contenders["torch"], dynamic=False)
    if case.roof == READ:
        contenders["roof"] = lambda *arguments: [torch.sum(a) for a in arguments]
        moved = n_bytes(first)
    else:
        room = torch.empty_like(first[0], dtype=torch.float32)
        contenders["roof"] = lambda *arguments: room.copy_(arguments[0])
        moved = n_bytes(first) + room.numel() * 4
    times = {name: [] for name in contenders}
    for name, function in list(contenders.items()):
        try:
            for _ in range(2):
                timed(function, buffers)
        except Exception as error:  # a peer that can't do it is left out, with its reason
            print(f"  {name}: {type(error).__name__}: {str(error).splitlines()[0][:100]}", file=sys.stderr)
            del contenders[name], times[name]
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times["fastloss"]) < 5:
        for name, function in contenders.items():
            times[name].append(timed(function, buffers))
    ours = times["fastloss"]
    result = {"case": case.name, "ms": statistics.median(ours), "GB/s": moved / statistics.median(ours) / 1e6}
    result["of the roof"] = statistics.median(r / t for r, t in zip(times["roof"], ours, strict=True))
    if case.roof == COPY:  # the copy moved less: it does not read the targets
        result["of the roof"] *= moved / (n_bytes(first[:1]) + room.numel() * 4)
    for name in contenders.keys() - {"fastloss", "roof"}:
        result[name] = statistics.median(t / o for t, o in zip(times[name], ours, strict=True))
    return result


def calls():
    """Microseconds of small calls, each waited for."""
    x, y = torch.randn(16, 10, device="cuda"), torch.randint(0, 10, (16,), device="cuda")
    a, b = reals(10)
    pairs = {
        "cross_entropy 16x10": (lambda: fastloss.cross_entropy(x, y), lambda: F.cross_entropy(x, y)),
        "mse_loss 10": (lambda: fastloss.mse_loss(a, b), lambda: F.mse_loss(a, b)),
    }
    for name, functions in pairs.items():
        found = []
        for function in functions:
            for _ in range(20):
                function()
            rounds = []
            for _ in range(300):
                start = time.perf_counter()
                function()
                torch.cuda.synchronize()
                rounds.append(1e6 * (time.perf_counter() - start))
            found.append(statistics.median(rounds))
        yield {"case": name, "us": found[0], "torch": found[1] / found[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case")
    parser.add_argument(
        "--without", action="append", default=[], help="a contender to leave out: torch.compile takes its time"
    )
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument("--output", type=Path, help="a file for the figures as JSON")
    parser.add_argument("--skip-tests", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("there is no CUDA device here, or torch was built without CUDA")
    if not options.skip_tests:
        tests = Path(__file__).parents[1] / "tests" / "device"
        if subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests]).returncode:
            sys.exit("the tests fail: nothing is measured")
    results = []
    for case in cases():
        if options.only in case.name:
            print(case.name, file=sys.stderr, flush=True)
            results.append(measure(case, options.seconds, options.without))
            torch.cuda.empty_cache()
    results += [] if options.only else list(calls())
    if options.output:
        about = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "fastloss": fastloss.__version__}
        options.output.write_text(json.dumps(about | {"results": results}, indent=1))
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}; peers: times as long as fastloss")
    for result in results:
        figures = ", ".join(f"{key} {value:.3g}" for key, value in result.items() if key != "case")
        print(f"{result['case']:55} {figures}")


if __name__ == "__main__":
    main()
