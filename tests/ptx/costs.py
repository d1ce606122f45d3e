"""What a launch takes on a GPU, predicted from what the driver has counted of it (counts.c).

Each unit of a multiprocessor takes its instructions at the rate that is documented for it, and memory its bytes at the documented bandwidth.  At
best all of them are busy all the time, and the slowest decides.  Besides, a block has its own pace: instructions wait for operands, rows for barriers.
Where warps are few and wait at the same time, that comes on top; what is expected is the sum, and a launch takes a time between both.

References
----------
NVIDIA. CUDA C++ Programming Guide 13.0: 8.4.1, table "Throughput of Native Arithmetic Instructions"; 20, "Technical Specifications per Compute
    Capability".
NVIDIA. A100 Tensor Core GPU Architecture (white paper, 2020); data sheets of A100 80GB, H100 and H200, each the SXM version.
"""

import contextlib
import json
import math
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

WARP, SECTOR = 32, 32


class Gpu(NamedTuple):
    capability: tuple
    multiprocessors: int
    clock: float  # Hz: what the data sheet's peak of float32 divides by
    bandwidth: float  # bytes per second
    l2: int  # bytes
    shared: int  # bytes per multiprocessor
    rates: dict  # results per clock and multiprocessor


# Of float32 and float64: additions, products, both. `multiply` is of integers, `alu` what is simple: integers, comparisons, choices, logic.  Reciprocals,
# ex2, lg2 and most conversions go to `special`.  Four schedulers issue an instruction of a warp each; 32 lanes load or store at a time.
_AMPERE = {
    "float32": 64,
    "float64": 32,
    "multiply": 64,
    "alu": 64,
    "special": 16,
    "shuffle": 32,
    "load/store": 32,
    "issue": 128,
}
_HOPPER = _AMPERE | {"float32": 128, "float64": 64}

GPUS = {
    "A100": Gpu((8, 0), 108, 19.5e12 / (108 * 128), 2.039e12, 40 << 20, 164 << 10, _AMPERE),
    "H100": Gpu((9, 0), 132, 67e12 / (132 * 256), 3.35e12, 50 << 20, 228 << 10, _HOPPER),
    "H200": Gpu((9, 0), 132, 67e12 / (132 * 256), 4.8e12, 50 << 20, 228 << 10, _HOPPER),
}
L2_PER_CLOCK = 5120  # bytes, of the A100's white paper; taken for all

# --- instructions -----------------------------------------------------------------------------------------------------

# Which units a form of PTX keeps busy for how many instructions of the machine.  The first pattern that fits counts.  Moves, sign changes, and
# whatever becomes part of another instruction are free; 64-bit integers take two; quotients and roots are short programs, whose usual way counts.
WORK = [
    # free:
    (r"mov\..*|cvta\..*|ld\.param\..*|(neg|abs)\.f(32|64)|cvt\.[sub]64\.[ub]32|cvt\.[sub]32\.[sub]64", {}),
    (r"cvt\.s64\.s32|cvt\.[sub](8|16|32|64)\.[sub](8|16|32|64)", {"alu": 1}),
    (r"(ld|st|atom|red)\..*", {"issue": 1}),
    (r"(bar|barrier|membar|fence|bra|ret|exit)\b.*", {"issue": 1}),
    (r"shfl\..*", {"shuffle": 1}),
    (r"vote\..*", {"alu": 1}),
    (r"(add|sub|mul|fma)\b.*\.f32", {"float32": 1}),
    (r"(add|sub|mul|fma)\b.*\.f64", {"float64": 1}),
    (r"(min|max)\.f64", {"float64": 1, "alu": 2}),
    (r"setp\..*\.f64|testp\..*\.f64", {"float64": 1}),
    (r"(setp|selp)\..*64", {"alu": 2}),
    (r"(setp|selp|min|max|testp|copysign)\..*", {"alu": 1}),
    (r"ex2\.approx\.f32|lg2\.approx\.f32|(rcp|rsqrt|sqrt)\.approx\.f32", {"special": 1, "float32": 2, "alu": 1}),
    (r"(ex2|lg2|rcp|rsqrt|sqrt|tanh)\.approx\..*", {"special": 1}),
    (r"div\.(approx|full)\..*", {"special": 1, "float32": 4, "alu": 2}),
    (r"(div|rcp|sqrt)\.rn\..*f32", {"special": 1, "float32": 7, "alu": 3}),
    (r"(div|rcp|sqrt)\.rn\.f64", {"special": 1, "float64": 8, "alu": 4}),
    (r"cvt\.f32\.f16", {"float32": 1}),
    (r"cvt\.rn\.f16\.f32", {"alu": 1}),
    (r"cvt\..*", {"special": 1}),
    (r"mul\.hi\.[su]64|(mul|mad)\.lo\.[su]64", {"multiply": 4}),
    (r"(mul|mad)\..*", {"multiply": 1}),
    (r"(div|rem)\.[su](16|32)", {"special": 2, "multiply": 4, "alu": 12}),
    (r"(div|rem)\.[su]64", {"special": 2, "multiply": 24, "alu": 48}),
    (r"(popc|clz)\.b(32|64)", {"special": 1}),
    (r"(bfe|bfi)\..*", {"alu": 2}),
    (r"(and|or|xor|not)\.pred", {"alu": 1}),
    (r"(add|sub|and|or|xor|not|shl|shr|neg|abs)\.[sub]64", {"alu": 2}),
    (r"(add|sub|and|or|xor|not|shl|shr|neg|abs)\.[sub](16|32)|prmt\.b32|shf\..*", {"alu": 1}),
]


@cache
def work(form):
    """The units that an instruction keeps busy, "issue" among them."""
    for pattern, units in WORK:
        if re.fullmatch(pattern, form):
            return units if "issue" in units else {**units, "issue": sum(units.values())}
    raise KeyError(f"no costs are known of {form}")


# From an instruction's start until another can use its result, in clocks.  Memory's are in counts.c.
LATENCIES = [
    (r"shfl\..*|vote\..*", 24),
    (r".*\.rn\.f64|(add|sub|mul|min|max|setp\..*)\.f64", 8),
    (r"(div|sqrt|rcp)\.rn\..*", 60),
]
SPECIAL, ARITHMETIC = 20, 4


@cache
def latency(form):
    units = work(form)
    if not units["issue"]:
        return 0
    for pattern, clocks in LATENCIES:
        if re.fullmatch(pattern, form):
            return clocks
    return SPECIAL if "special" in units else ARITHMETIC * units["issue"]


# --- resources --------------------------------------------------------------------------------------------------------


class Resources(NamedTuple):
    registers: int  # per thread
    spilled: int  # bytes, stored and loaded
    instructions: int  # of the machine, in all of the kernel


@cache
def resources(ptx, capability):
    """What the assembler says of a kernel with -v; it is that of nvJitLink, which the extra 'cuda' installs."""
    from cuda.bindings import nvjitlink

    target = "sm_{}{}".format(*capability)
    text = re.sub(r"\.target sm_\w+", f".target {target}", ptx).encode()
    handle = nvjitlink.create(2, [f"-arch={target}", "-verbose"])
    with contextlib.ExitStack() as stack:
        stack.callback(nvjitlink.destroy, handle)
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, text, len(text), "kernel")
        nvjitlink.complete(handle)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
        code = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, code)
    said = log.decode()
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill", said)]
    registers = int(re.search(r"[Uu]sed (\d+) registers", said).group(1))
    return Resources(registers, sum(spills), size_of_text(bytes(code)) // 16)


def size_of_text(elf):
    """The bytes of the sections of an ELF file that are named .text."""
    number = lambda at, n: int.from_bytes(elf[at : at + n], "little")  # noqa: E731
    table, size, n, names = number(40, 8), number(58, 2), number(60, 2), number(62, 2)
    sections = [table + i * size for i in range(n)]
    names_at = number(sections[names] + 24, 8)
    return sum(number(s + 32, 8) for s in sections if elf[names_at + number(s, 4) :].startswith(b".text"))


def blocks_at_once(gpu, threads, registers, shared):
    """How many blocks a multiprocessor holds at once.

    It gives registers to four warps at a time, 256 to each or a multiple, and keeps 1 KiB of shared memory for itself per block.
    """
    warps = -(-threads // WARP)
    of_registers = 65536 // (-(-warps // 4) * 4 * (-(-registers * WARP // 256) * 256))
    of_shared = gpu.shared // (-(-shared // 128) * 128 + 1024)
    return min(32, 64 // warps, of_registers, of_shared)


# --- predictions ------------------------------------------------------------------------------------------------------


class Prediction(NamedTuple):
    seconds: dict  # by what is kept busy
    alone: float  # seconds of blocks that have a multiprocessor for themselves, as many after one another as there are waves of them
    warps: int  # at once on a multiprocessor
    waves: float  # how often all multiprocessors are filled

    @property
    def binding(self):
        return max(self.seconds, key=self.seconds.get)

    @property
    def at_best(self):
        return max(*self.seconds.values(), self.alone)

    @property
    def expected(self):
        return max(self.seconds.values()) + self.alone


def launches(path):
    """What has been counted, and the PTX of each kernel."""
    for line in Path(path).read_text().splitlines():
        counts = json.loads(line)
        yield counts, Path(counts["library"]).with_suffix(".ptx").read_text()


def machine_instructions(counts):
    """By unit, as many of all warps of the launch."""
    found = {}
    for form, n in counts["issued"]:
        for unit, each in work(form).items():
            found[unit] = found.get(unit, 0) + n * each
    found["load/store"] = counts["lines"] + counts["wavefronts"]
    scale = counts["blocks"] / counts["run"]
    return {unit: n * scale for unit, n in found.items()}


def predicted(counts, ptx, gpu):
    resource = resources(ptx, gpu.capability)
    at_once = blocks_at_once(gpu, counts["threads"], resource.registers, counts["shared"])
    scale = counts["blocks"] / counts["run"]
    clocks = gpu.multiprocessors * gpu.clock
    seconds = {unit: n * WARP / (gpu.rates[unit] * clocks) for unit, n in machine_instructions(counts).items()}
    # a sector that a block comes back to is still in the second-level cache, unless all blocks have read more than that meanwhile
    n_blocks = min(counts["blocks"], at_once * gpu.multiprocessors)
    evicted = sum(n for k, n in enumerate(counts["again"]) if 1.5 * 2**k * n_blocks > gpu.l2)
    moved = counts["first_read"] + counts["first_written"] + evicted
    seconds["memory"] = scale * moved * SECTOR / gpu.bandwidth
    seconds["L2"] = scale * (counts["read"] + counts["written"]) * SECTOR / (L2_PER_CLOCK * gpu.clock)
    waves = counts["blocks"] / (at_once * gpu.multiprocessors)
    alone = math.ceil(waves) * counts["clocks"] / counts["run"] / gpu.clock
    return Prediction(seconds, alone, at_once * math.ceil(counts["threads"] / WARP), waves)
