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
    "index": {"LABELED": True},
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
BATCH = 32  # the most elements of a row that a thread processes together
SOLO = 16  # likewise if each row has one thread
STAGED = 32  # the most classes of rows that are staged in shared memory
TEAM = 128, 256  # threads per team; several teams fit on a multiprocessor, as each waits at the end of its row

# One block per row from TEAM_FROM classes on, or from TEAM_FROM_FEW if there are fewer than FEW rows.
TEAM_FROM = 4096
TEAM_FROM_FEW, FEW = 1024, 2048

# How many classes a block computes if there are too few rows for all multiprocessors, and how many blocks are enough.
CHUNK, BLOCKS = 8192, TICKETS


if _target.SIMULATED:  # the same code paths, for rows short enough for Python
    BATCH, SOLO, TEAM = 16, 8, (8, 16)
    TEAM_FROM, TEAM_FROM_FEW, FEW, CHUNK, BLOCKS = 96, 64, 8, 64, 16


class Shape(NamedTuple):
    """How rows are distributed: N elements per vector, V vectors per batch, GROUP lanes or a team of THREADS per
    row."""

    n: int
    v: int
    group: int
    threads: int  # per team; 0 for groups
    chunk: int


def shape_of(n_rows, n_classes, name, contiguous, second):
    """The Shape for rows of this number and dtype; it does not depend on alignment, and so neither does the order of
    sums.

    A row that is swept a second time is not cut into chunks, because a chunk would have to wait for the others.
    """
    width = VECTOR // SIZES[name]
    batch = BATCH if name in ("float16", "bfloat16", "float32") else BATCH // 2  # float64 takes two registers
    n = width if contiguous and n_classes % width == 0 else 1
    n_vectors = max(1, -(-n_classes // n))
    along_rows = not contiguous and n_rows >= FEW  # neighbouring lanes read neighbouring rows
    if not along_rows and (n_classes >= TEAM_FROM or n_classes >= TEAM_FROM_FEW and n_rows < FEW):
        v = batch // n
        threads = min(TEAM[1], max(TEAM[0], 1 << (n_classes // BATCH - 1).bit_length()))
        n_chunks = 1 if second else min(WARP, max(1, BLOCKS // max(n_rows, 1)), max(1, n_classes // CHUNK))
        chunk = -(-n_vectors // n_chunks) * n
        return Shape(n, v, WARP, threads, chunk)
    group = 1
    while not along_rows and group < WARP and group * batch < n_classes:
        group *= 2
    share = -(-n_vectors // group)  # vectors per lane
    most = max(1, (SOLO if group == 1 else batch) // n)
    v = -(-share // -(-share // most))
    if (
        n == 1 and group == 1
    ):  # complete batches if possible: the checks in an incomplete one cost more than a few additional batches
        v = next((v for v in range(most, most // 3, -1) if share % v == 0), v)
    return Shape(n, v, group, 0, n_classes)


def is_staged(shape, n_classes):
    """Whether rows with one thread each are copied to shared memory, if they follow one another; all others are read as
    full vectors."""
    return shape.group == 1 and shape.n == 1 and n_classes <= STAGED


def n_blocks(shape, n_rows, n_chunks):
    """The number of blocks to launch, before it is limited."""
    return n_rows * n_chunks if shape.threads else -(-n_rows // GROUP_THREADS)


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
    purpose = (
        f"{op}_{second}_{name}_{target}_{real}_{shape.n}_{shape.v}_{shape.group}_{threads}_{vectors}_{staged}_{index}"
    )
    holes = {
        "Real": Real,
        "N": shape.n,
        "V": shape.v,
        "BATCH": shape.n * shape.v,
        "WRITTEN": VECTOR // SIZES[real],
        "WHOLE": VECTOR // SIZES[name],
        "STAGED": max(1, threads * staged),
        "GROUP": shape.group,
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
    power = s.power_careful if name == "float32" else s.power_quick if real == "float32" else s.power_double
    holes["power"] = _jit.inlined(power, real, Real=Real)
    fill = s.fill_vectors if vectors else s.fill_elements
    holes["fill"] = _jit.inlined(fill, purpose, **holes)
    holes["write_batch"] = _jit.inlined(rows.write_vectors if vectors else rows.write_elements, purpose, **holes)
    pieces = (
        s.added, s.exactly_powered, s.rescaled, s.leave_out, s.largest, s.exchange, s.before, s.coefficient, s.sweep, s.based, s.highest_of_group, s.sum_of_group,
        s.least_of_group, s.merged, s.finish, s.scaled, labels.place_of, labels.label_of, rows.first_missing, rows.row_loss,
        rows.row_outputs, rows.of_lane, rows.second_sweep, rows.pack, rows.unpack,
    )  # fmt: skip
    holes |= _settle.functions(threads, real) | {
        "read_sum": _target.fresh_reader(),
        "write_sum": _target.writer("float64"),
    }
    holes["write_ticket"] = _target.writer("int32")
    holes |= _jit.family(pieces, purpose, **holes)
    return _jit.kernel(rows.teams if shape.threads else rows.groups, purpose, threads, **holes)


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
    holes |= _jit.family((_softmax.scaled, labels.place_of, labels.label_of), purpose, **holes)
    return _jit.kernel(getattr(labels, template), purpose, LABEL_THREADS, **holes)
