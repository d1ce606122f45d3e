"""Measure fastloss on a GPU: correctness first, then bandwidth and peers, one table last.

    pip install '.[cuda,torch,test]' && python bench/gpu.py [--seconds S] [--without CONTENDER] [--output FILE.json]
        [--skip-tests]
    python bench/gpu.py --predict

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
from gpu_cases import CLASSES, COPY, NORMAL, READ, ZERO_OR_ONE, cases
from gpu_predict import predictions, show

import fastloss

PREDICTED = ("A100", "H100", "H200")
ROTATION = 4  # times the second-level cache that the buffers of a case take together, at least


def tensors(case):
    """The arrays of a case."""
    made = []
    for given in case.inputs:
        if given.kind == CLASSES:
            made.append(torch.randint(0, given.n_classes, given.shape, device="cuda"))
            continue
        if given.kind == ZERO_OR_ONE:
            values = torch.randint(0, 2, given.shape, device="cuda")
        elif given.kind == NORMAL:
            values = torch.randn(given.shape, device="cuda").mul_(3)
        else:
            values = torch.rand(given.shape, device="cuda")
        made.append(values.to(getattr(torch, given.dtype)))
    return tuple(made)


def backward(function):
    def step(x, y):
        x = x.detach().requires_grad_()
        function(x, y).backward()
        return x.grad

    return step


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


def contenders_of(case):
    found = {"fastloss": case.call}
    if case.loss:
        found["torch"] = getattr(F, case.loss) if not case.gradient else backward(getattr(F, case.loss))
    if case.loss == "cross_entropy" and len(case.inputs[0].shape) == 2:
        found |= {"liger": liger_step} if case.gradient else {"quack": quack_forward}
    return {name: function for name, function in found.items() if function}


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
    first = tensors(case)
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    buffers = [first] + [tensors(case) for _ in range(max(1, -(-ROTATION * cache // n_bytes(first)) - 1))]
    contenders = contenders_of(case)
    if "torch" in contenders:
        contenders["torch.compile"] = torch.compile(contenders["torch"], dynamic=False)
    contenders = {name: function for name, function in contenders.items() if name not in without}
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
    a, b = torch.randn(10, device="cuda"), torch.randn(10, device="cuda")
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


def predicted_here(chosen):
    """Milliseconds that each case should take, where this GPU is one that predictions are made for."""
    name = next((name for name in PREDICTED if name in torch.cuda.get_device_name()), None)
    if name is None:
        return {}
    return {
        p.case: {"predicted ms": p.expected, "at best": p.at_best, "bound by": p.binding}
        for p in predictions(chosen, [name])
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case")
    parser.add_argument(
        "--without", action="append", default=[], help="a contender to leave out: torch.compile takes its time"
    )
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument("--output", type=Path, help="a file for the figures as JSON")
    parser.add_argument("--skip-tests", action="store_true")
    parser.add_argument("--predict", action="store_true", help="without a GPU: how long each case should take on some")
    options = parser.parse_args()
    chosen = [case for case in cases() if options.only in case.name]
    if options.predict:
        return show(predictions(chosen, PREDICTED))
    if not torch.cuda.is_available():
        sys.exit("there is no CUDA device here, or torch was built without CUDA")
    if not options.skip_tests:
        tests = Path(__file__).parents[1] / "tests" / "device"
        if subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests]).returncode:
            sys.exit("the tests fail: nothing is measured")
    results = []
    expected = predicted_here(chosen)
    for case in chosen:
        print(case.name, file=sys.stderr, flush=True)
        results.append(measure(case, options.seconds, options.without) | expected.get(case.name, {}))
        torch.cuda.empty_cache()
    results += [] if options.only else list(calls())
    if options.output:
        about = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "fastloss": fastloss.__version__}
        options.output.write_text(json.dumps(about | {"results": results}, indent=1))
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}; peers: times as long as fastloss")
    for result in results:
        figures = ", ".join(
            f"{key} {value}" if isinstance(value, str) else f"{key} {value:.3g}"
            for key, value in result.items()
            if key != "case"
        )
        print(f"{result['case']:55} {figures}")


if __name__ == "__main__":
    main()
