"""Chooses, and compiles, kernels of the softmax family by operation, dtypes and shape of rows."""

import functools
from typing import NamedTuple

import numpy as np

from fastloss.backends.numba_cuda import _jit, _settle, _softmax, _staging, _target, labels, rows
from fastloss.backends.numba_cuda._softmax import GRADIENT, LOGS, NONE, POWERS
from fastloss.backends.numba_cuda._target import LABEL_KINDS, SIZES, VECTOR, WARP
from fastloss.backends.numba_cuda.rows import STATE, TICKETS

# Operations, as values of the holes of `rows`.
OPS = {
    "index": {"LABELED": True},  # losses only
    "known": {"LABELED": True},  # and logsumexp
    "index_spread": {"LABELED": True, "SPREAD": True},
    "dense": {"SPREAD": True, "DENSE": True},
    "normalise": {},
    "score": {"LABELED": True, "BEST": True},
    "rank": {"LABELED": True, "BEST": True, "RANK": True},
}

__all__ = [
    "GRADIENT",
    "GROUP_THREADS",
    "LABEL_KINDS",
    "LABEL_THREADS",
    "LOGS",
    "NONE",
    "POWERS",
    "STATE",
    "TICKETS",
    "is_staged",
    "by_label",
    "kernel",
    "n_blocks",
    "shape_of",
]

WARPS = 4  # per block of `groups`
GROUP_THREADS = LABEL_THREADS = WARPS * WARP
BATCH = 32  # elements of a row that a lane of a group takes together, at most
HALF_BATCH = 16  # likewise where a second sweep needs registers
STAGED = 32  # classes of rows that are staged in shared memory, at most

# Threads of a team, and of one that sweeps long rows twice: several of them on a multiprocessor, as one waits at the end of its row.
TEAM = 128, 256

# Threads on a multiprocessor, at least, which limits their registers: some assemblers would leave room for half as many.  Teams that sweep
# once need few, of halves a little more.
RESIDENT, RESIDENT_IN_TEAMS, RESIDENT_IN_TEAMS_OF_HALVES = 512, 768, 640

# A row is a block's from TEAM_ALWAYS classes on; and from TEAM_FROM on where there are too few rows for the
# warps of `groups`: fewer than ROWS_PER_CLASS for each class, and than MANY.  Measured on an H200 when each took 32, 16 to 65536 rows of
# 100 to 8192 classes: a warp takes about 6 us + 40 ns a class then, a block 7 us + 3 ns a row.
TEAM_ALWAYS, TEAM_FROM, ROWS_PER_CLASS, MANY = 16384, 64, 12, 32768

# How many rows each group of a warp goes through before their logarithms are taken, by a lane each: with more of them, blocks take so long
# that some multiprocessors have nothing to do in the end.
STEPS = 8

# How many of them each group of a warp goes through before it goes through them again, if they are one batch each: so few that they are still in a
# cache, though all of them are waited for together.
AGAIN = 4

# Rows from which on neighbouring threads read neighbouring rows where classes are not neighbours.
ALONG_ROWS = 2048

# How many classes a block computes if there are too few rows for all multiprocessors, and how many blocks are enough.
CHUNK, BLOCKS = 8192, TICKETS


if _target.SIMULATED:  # the same ways for rows that Python can go through
    BATCH, HALF_BATCH, TEAM = 16, 8, (8, 16)
    TEAM_ALWAYS, TEAM_FROM, ROWS_PER_CLASS, MANY = 96, 64, 12, 8
    ALONG_ROWS, CHUNK, BLOCKS, STEPS, AGAIN = 8, 64, 16, 4, 2


class Shape(NamedTuple):
    """How rows are distributed: N elements per vector, V vectors per batch, GROUP lanes or a team of THREADS per
    row."""

    n: int
    v: int
    group: int
    threads: int  # per team; 0 for groups
    chunk: int
    once: bool  # whether a row is one batch


def shape_of(n_rows, n_classes, name, contiguous, second):
    """The Shape for rows of this number and dtype; it does not depend on alignment, and so neither does the order of
    sums.

    A row that is swept a second time is not cut into chunks, because a chunk would have to wait for the others.
    """
    width = VECTOR // SIZES[name]
    n = width if contiguous and n_classes % width == 0 else 1
    n_vectors = max(1, -(-n_classes // n))
    # neighbouring lanes read neighbouring rows
    along_rows = not contiguous and n_rows >= ALONG_ROWS and n_classes <= np.iinfo(np.int32).max
    is_few = n_classes >= TEAM_FROM and n_rows < min(ROWS_PER_CLASS * n_classes, MANY)
    is_team = not along_rows and (n_classes >= TEAM_ALWAYS or is_few)
    per_lane, batch = BATCH, HALF_BATCH if second and not is_team else BATCH
    if SIZES[name] > 4:  # a float64 takes two registers
        per_lane, batch = per_lane // 2, batch // 2
    if is_team:
        threads = TEAM[bool(second) and n_classes >= TEAM_ALWAYS]
        v = max(1, min(batch // n, -(-n_vectors // threads)))
        n_chunks = 1 if second else min(WARP, max(1, BLOCKS // max(n_rows, 1)), max(1, n_classes // CHUNK))
        chunk = -(-n_vectors // n_chunks) * n
        return Shape(n, v, WARP, threads, chunk, False)
    group = 1
    while not along_rows and group < WARP and group * per_lane < n_classes:
        group *= 2
    share = -(-n_vectors // group)  # vectors of a lane
    most = max(1, batch // n)  # vectors of a batch
    v = -(-share // -(-share // most))
    if (
        n == 1 and group == 1
    ):  # complete batches if possible: the checks in an incomplete one cost more than a few additional batches
        v = next((v for v in range(most, most // 3, -1) if share % v == 0), v)
    return Shape(n, v, group, 0, n_classes, share <= v)


def is_staged(shape, n_classes):
    """Whether rows with one thread each are copied to shared memory, if they follow one another; all others are read as
    full vectors."""
    return shape.group == 1 and shape.n == 1 and n_classes <= STAGED


def steps_of(shape):
    """How many rows each group of a warp goes through before they are finished, by one lane each."""
    return min(shape.group, STEPS)


def n_blocks(shape, n_rows, n_chunks):
    """The number of blocks to launch, before it is limited."""
    return n_rows * n_chunks if shape.threads else -(-n_rows // (WARPS * WARP // shape.group * steps_of(shape)))


def kernel(op, second, name, target, real, shape, aligned, staged=0, index="int64"):
    """The kernel for logits of dtype `name` and, if these are probabilities, targets of dtype `target`.

    staged : the number of classes, if rows are copied to shared memory; otherwise 0.
    index : the dtype of class indices.
    """
    return _kernel(op, second, name, target, real, shape._replace(chunk=0), aligned, staged, index)


@functools.cache
def _kernel(op, second, name, target, real, shape, aligned, staged, index):
    flags = {**dict.fromkeys(("LABELED", "SPREAD", "DENSE", "BEST", "RANK"), False), **OPS[op]}
    threads = shape.threads or WARPS * WARP
    Real = np.dtype(real).type
    read = _target.reader(name, real)
    vectors = aligned and shape.n > 1
    once = shape.once and not flags["SPREAD"]  # coefficients and batches at a time would take too many registers
    purpose = f"{op}_{second}_{name}_{target}_{real}_{shape.n}_{shape.v}_{shape.group}_{threads}_{shape.once}_{vectors}_{staged}_{index}"
    holes = {
        "Real": Real,
        "Int": np.int64 if shape.threads else np.int32,
        "LONG": bool(shape.threads),
        "ONCE": once,
        "N": shape.n,
        "V": shape.v,
        "BATCH": shape.n * shape.v,
        "WRITTEN": VECTOR // SIZES[real],
        "WHOLE": VECTOR // SIZES[name],
        "CLASSES": staged,
        "STAGED": max(1, threads * staged),
        "GROUP": shape.group,
        "STEPS": steps_of(shape),
        "AT_ONCE": min(steps_of(shape), AGAIN if shape.once else 1) if second else steps_of(shape),
        "ROWS": WARP // shape.group * steps_of(shape),
        "THREADS": threads,
        "WARPS": threads // WARP,
        "SECOND": second,
        **flags,
        "read": read,
        "read_vector": _target.vector_reader(name, real) if vectors else None,
        "read_masked": _target.masked_reader(name, real) if vectors else None,
        "read_target": _target.reader(target or name, real),
        "read_weight": _target.reader(real, real),
        "write_loss": _target.writer(real),
        "write_vector": _target.vector_writer(real),
        "write_index": _target.writer(index),
        "write_flag": _target.writer("int8"),
    }
    if staged:
        ways = _staging.stage_rows, _staging.staged_itself, _staging.staged_origin
        holes |= {"read_one": read, "read_whole": _target.vector_reader(name, real)}
        holes["read"] = _target.inlined(_staging.read_staged)
    else:
        ways = _staging.stage_nothing, _staging.memory_itself, _staging.memory_origin
    for hole, way in zip(("stage", "memory_of", "origin_of"), ways, strict=True):
        holes[hole] = _jit.inlined(way, purpose, **holes)
    s = _softmax
    holes |= s.exponential(name, real)
    powers = s.powers_careful if name == "float32" else s.powers_plain
    holes["powers"] = _jit.inlined(powers, purpose, **holes)
    fill = (s.fill_once if once else s.fill_vectors) if vectors else s.fill_elements
    holes["fill"] = _jit.inlined(fill, purpose, **holes)
    holes["write_batch"] = _jit.inlined(rows.write_vectors if vectors else rows.write_elements, purpose, **holes)
    together = bool(shape.threads) and flags["LABELED"]
    ways = (s.highest_of_group, s.offset_of_warp) if together else (s.highest_alone, s.offset_alone)
    for hole, way in zip(("highest_among", "leading"), ways, strict=True):
        holes[hole] = _jit.inlined(way, purpose, **holes)
    holes["anyone"] = _target.any_lane if together else _jit.inlined(s.alone, purpose)
    quick = op == "index" and name.endswith("float16") and real == "float32"
    pieces = (
        s.added, s.added_to_any, s.exactly_powered, s.rescaled, s.leave_out, s.largest, s.exchange, s.take_largest, s.before, s.coefficient, s.halved, s.in_eights, s.sweep_halves if quick else s.sweep, s.based, s.highest_of_group, s.sum_of_group,
        s.least_of_group, s.merged, s.finish, labels.place_of, labels.label_of, rows.first_missing, rows.row_loss,
        rows.row_outputs, rows.of_lane, rows.second_sweep, rows.pack, rows.unpack,
    )  # fmt: skip
    holes |= _settle.functions(threads, real, at_once=4) | {
        "read_sum": _target.fresh_reader(),
        "write_sum": _target.writer("float64"),
    }
    holes["write_ticket"] = _target.writer("int32")
    holes |= {formula: _jit.formulas(real)[formula] for formula in ("scaled", "mixed_loss", "target_slope")}
    holes |= _jit.family(pieces, purpose, **holes)
    holes["sweep"] = holes.get("sweep_halves", holes.get("sweep"))
    resident = None  # what does more, or in float64, would have to keep in memory what finds no register
    if real == "float32" and op in ("index", "known"):
        resident = RESIDENT
        if shape.threads and not second:
            resident = RESIDENT_IN_TEAMS if name == "float32" else RESIDENT_IN_TEAMS_OF_HALVES
    return _jit.kernel(rows.teams if shape.threads else rows.groups, purpose, threads, resident=resident, **holes)


@functools.cache
def by_label(template, second, name, real):
    """`gather`, `weigh` or `place`, which read only labels and single elements."""
    holes = {
        "THREADS": WARPS * WARP,
        "Real": np.dtype(real).type,
        "SECOND": second,
        "read": _target.reader(name, real),
        "read_weight": _target.reader(real, real),
        "read_sum": _target.fresh_reader(),
        "write_loss": _target.writer(real),
    }
    purpose = f"{second}_{name}_{real}"
    holes |= _settle.functions(WARPS * WARP, real)
    holes["scaled"] = _jit.formulas(real)["scaled"]
    holes |= _jit.family((labels.place_of, labels.label_of), purpose, **holes)
    return _jit.kernel(getattr(labels, template), purpose, LABEL_THREADS, **holes)
