"""What the cases of `gpu_cases.py` should take on a GPU, predicted without one: `python bench/gpu.py --predict`.

The executor of `tests/ptx` runs a few blocks of each launch and counts; `tests/ptx/costs.py` makes seconds of the counts.
"""

import concurrent.futures
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

PTX = Path(__file__).parents[1] / "tests" / "ptx"
N_BLOCKS = 4  # of a launch, that are executed


class Prediction(NamedTuple):
    case: str
    gpu: str
    at_best: float  # ms
    expected: float
    share_at_best: float  # of the roof: of the bandwidth that is documented
    share: float
    binding: str  # the unit that is busy longest in the longest launch; then the next one, and for how much of the former's time
    next: str
    next_share: float
    registers: int
    warps: int


def predictions(cases, gpus):
    """For each case one for each of these GPUs, as they become known."""
    if not PTX.is_dir():
        sys.exit("predictions need tests/ptx: run bench/gpu.py from a checkout of fastloss's repository")
    sys.path.insert(0, str(PTX))
    import machine

    if machine.reason_missing():
        sys.exit(f"nothing can be predicted: {machine.reason_missing()}")
    machine.built()
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        counted = [(case, pool.submit(_counted, machine, case, Path(folder, str(i)))) for i, case in enumerate(cases)]
        for case, found in counted:
            yield from _predicted(case, *found.result(), gpus)


def _counted(machine, case, path):
    """The bytes that the case has to move, and its launches."""
    settings = machine.environment(DRIVER_COSTS=str(path), DRIVER_BLOCKS=str(N_BLOCKS))
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_ENABLE_CUDASIM"} | settings
    process = subprocess.run([sys.executable, __file__, case.name], env=environment, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"{case.name}: {process.stderr[-2000:]}")
    return int(process.stdout), path


def _predicted(case, n_bytes, path, gpus):
    import costs

    launches = list(costs.launches(path))
    for name in gpus:
        gpu = costs.GPUS[name]
        each = [costs.predicted(counts, ptx, gpu) for counts, ptx in launches]
        at_best, expected = sum(p.at_best for p in each), sum(p.expected for p in each)
        longest = max(range(len(each)), key=lambda i: each[i].expected)
        units = each[longest].seconds
        binding, following = sorted(units, key=units.get)[:-3:-1]
        yield Prediction(
            case.name,
            name,
            1e3 * at_best,
            1e3 * expected,
            n_bytes / gpu.bandwidth / at_best,
            n_bytes / gpu.bandwidth / expected,
            binding,
            following,
            units[following] / units[binding],
            costs.resources(launches[longest][1], gpu.capability).registers,
            each[longest].warps,
        )


def show(found):
    print(
        "| case | GPU | ms at best | of the roof | ms expected | of the roof | what binds | next | registers | warps |"
    )
    print("| --- " * 10 + "|")
    for p in found:
        figures = f"{p.at_best:.3f} | {p.share_at_best:.2f} | {p.expected:.3f} | {p.share:.2f}"
        units = f"{p.binding} | {p.next} {p.next_share:.2f}"
        print(f"| {p.case} | {p.gpu} | {figures} | {units} | {p.registers} | {p.warps} |", flush=True)


# --- in the executor --------------------------------------------------------------------------------------------------


def _array(given):
    """An array on the device, of which the first MiB is written: the executor repeats it."""
    import numpy as np
    from gpu_cases import CLASSES, NORMAL, ZERO_OR_ONE

    from fastloss.backends.numba_cuda._compiler import cuda

    rng = np.random.default_rng(0)
    dtype = _dtype(given.dtype)
    plain = np.dtype(np.uint16) if given.dtype == "bfloat16" else dtype  # Numba copies no bfloat16
    there = cuda.device_array(given.n_bytes // dtype.itemsize, plain)
    n = min(there.size, (1 << 20) // dtype.itemsize)
    if given.kind == CLASSES:
        values = rng.integers(0, given.n_classes, n)
    elif given.kind == ZERO_OR_ONE:
        values = rng.integers(0, 2, n)
    else:
        values = 3 * rng.normal(size=n) if given.kind == NORMAL else rng.uniform(size=n)
    there[:n].copy_to_device(values.astype(dtype).view(plain))
    return there.view(dtype).reshape(given.shape)


def _dtype(name):
    import numpy as np

    if name == "bfloat16":
        from ml_dtypes import bfloat16

        return np.dtype(bfloat16)
    return np.dtype(name)


def _bytes(result):
    if isinstance(result, tuple):
        return sum(map(_bytes, result))
    return result.dtype.itemsize * result.size if hasattr(result, "dtype") else 0


def main(name):
    import warnings

    from gpu_cases import cases

    warnings.simplefilter("ignore")
    case = next(case for case in cases() if case.name == name)
    arrays = [_array(given) for given in case.inputs]
    print(sum(given.n_bytes for given in case.inputs) + _bytes(case.call(*arrays)))


if __name__ == "__main__":
    main(sys.argv[1])
