"""Probabilities: whether they are such, and how far they are from what came true."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from fastloss.backends.numba_cpu._jit import across, called, inlined, specialise
from fastloss.backends.numba_cpu._load import load, row, smaller, span
from fastloss.backends.numba_cpu._memory import on_stack
from fastloss.backends.numba_cpu._softmax import count, is_class, is_ignored, note_bad, start_block

PIECE = 2048  # probabilities in float64 at a time, 16 KiB
PREDICTED = 512  # rows of these at most
AT_ONCE = 128  # rows side by side, where there are many classes
SUMMED = 32  # numbers that are added up together

new_piece = on_stack(PIECE + SUMMED)
new_labels = on_stack(PREDICTED)

# Types with the bits of operands (see `_load`), and the bits of 1.
_BITS = {types.uint16: types.uint16, types.int16: types.int16, types.float32: types.int32, types.float64: types.int64}
_ONE = {types.uint16: 0x3C00, types.int16: 0x3F80, types.int32: 0x3F800000, types.int64: 0x3FF0000000000000}


def _neighbours(bits):
    """A function (operand, offset, n) that makes a contiguous view of n elements from an offset in bytes on, which must be
    neighbours: of their bits if wanted."""

    @intrinsic
    def view(typingctx, operand, offset, n):
        kind = types.Array(_BITS[operand.dtype] if bits else operand.dtype, 1, "C")

        def codegen(context, builder, signature, args):
            value, offset, n = args
            array = context.make_array(operand)(context, builder, value)
            item = context.get_data_type(kind.dtype)
            data = cgutils.pointer_add(builder, array.data, offset, item.as_pointer())
            found = context.make_array(kind)(context, builder)
            populate_array(found, data, [n], [array.itemsize], array.itemsize, None)
            return found._getvalue()

        return kind(operand, types.intp, types.intp), codegen

    return view


elements_from, bits_from = _neighbours(bits=False), _neighbours(bits=True)


@intrinsic
def none_of(typingctx, bits):
    """0 as bits of that type."""
    kind = bits.dtype
    return kind(bits), lambda context, builder, signature, args: context.get_constant(kind, 0)


@intrinsic
def with_bits(typingctx, found, v):
    """`found` with its highest bit set, if as unsigned integers the bits v are larger than those of 1."""

    def codegen(context, builder, signature, args):
        found, v = args
        return builder.or_(found, builder.or_(builder.sub(ir.Constant(v.type, _ONE[signature.args[1]]), v), v))

    return found(found, v), codegen


@intrinsic
def is_high(typingctx, found):
    """Whether the highest bit is set."""

    def codegen(context, builder, signature, args):
        return builder.icmp_signed("<", args[0], ir.Constant(args[0].type, 0))

    return types.boolean(found), codegen


@called
def beyond(bits):
    """Whether some of these, which are contiguous, may lie outside [0, 1]: -0 and NaN, which do not, look as if they did."""
    found = none_of(bits)
    for k in range(bits.size):
        found = with_bits(found, bits[k])
    return is_high(found)


@inlined
def is_beyond(v):
    return v < 0.0 or v > 1.0


@called
def rows_beyond(x, i, start, stop):
    """Whether some of the probabilities x[i, :, start:stop] may lie outside [0, 1]."""
    n_classes = x.shape[1]
    outer_step, class_step, lane_step = x.strides
    size, rows = x.itemsize, stop - start
    base = i * outer_step + start * lane_step
    if class_step == size and lane_step == n_classes * size:
        return beyond(bits_from(x, base, n_classes * rows))
    found = False
    if lane_step == size:
        for c in range(n_classes):
            found |= beyond(bits_from(x, base + c * class_step, rows))
    elif class_step == size:
        for r in range(rows):
            found |= beyond(bits_from(x, base + r * lane_step, n_classes))
    else:
        for c in range(n_classes):
            lanes = span(row(x, i, c), start, stop)
            for r in range(rows):
                found |= is_beyond(load(lanes, r))
    return found


@inlined
def never(x, i, start, stop):
    return False


@called
def put_run(x, offset, n, v, first):
    """Write n neighbours to v[first:]; whether some may be no probabilities."""
    own = elements_from(x, offset, n)
    written = span(v, first, first + n)
    for k in range(n):
        written[k] = np.float64(load(own, k))
    return beyond(bits_from(x, offset, n))


@called
def put_piece(x, i, start, rows, first_class, classes, v):
    """Write x[i, classes, rows] from these on to `v`, rows side by side if they are in memory, otherwise classes; whether some may be no
    probabilities."""
    outer_step, class_step, lane_step = x.strides
    base = i * outer_step + start * lane_step + first_class * class_step
    size = x.itemsize
    found = False
    if class_step == size and lane_step == classes * size:
        found = put_run(x, base, classes * rows, v, 0)
    elif class_step == size:
        for r in range(rows):
            found |= put_run(x, base + r * lane_step, classes, v, r * classes)
    elif lane_step == size:
        for c in range(classes):
            found |= put_run(x, base + c * class_step, rows, v, c * rows)
    else:
        for c in range(classes):
            lanes = span(row(x, i, first_class + c), start, start + rows)
            for r in range(rows):
                value = np.float64(load(lanes, r))
                found |= is_beyond(value)
                v[c * rows + r] = value
    return found


@called
def sum_of_squares(v, n):
    """Of v[:n], which has room for SUMMED more."""
    for k in range(n, n + SUMMED):
        v[k] = 0.0
    total = 0.0
    own = span(v, 0, (n + SUMMED - 1) // SUMMED * SUMMED)
    for k in range(own.size):
        total += own[k] * own[k]
    return total


def distance_columns(
    x,  # IN (outer, n_classes, inner)
    target,  # IN (outer, inner) any integer dtype
    ignore_index,
    event,  # IN whether the only class is an event, and labels say whether it came true
    block,  # IN rows per block
    first,
    last,
    partials,  # OUT (n_blocks, 4)
):
    """Squared distances between probabilities and what came true."""
    outer, n_classes, inner = x.shape
    v, labels = new_piece(np.float64), new_labels(np.int64)
    by_class = x.strides[1] == x.itemsize
    fit = PIECE // n_classes if n_classes < PIECE else 1
    fit = AT_ONCE if fit < AT_ONCE and not by_class else fit
    fit = smaller(fit, PREDICTED)
    for b in range(first, last):
        start_block(partials, b)
        r, end = b * block, smaller((b + 1) * block, outer * inner)
        bad = False
        while r < end:
            i, j = r // inner, r % inner
            rows = smaller(fit, smaller(inner - j, end - r))
            counted, loss = rows, 0.0
            for k in range(rows):
                label = target[i, j + k]
                labels[k] = -1
                if is_ignored(label, ignore_index):
                    counted -= 1
                elif is_class(label, 2 if event else n_classes):
                    labels[k] = label
                else:
                    note_bad(partials, b, r + k)
            most = PIECE // rows
            for start in range(0, n_classes, most):
                classes = smaller(most, n_classes - start)
                class_step, row_step = (1, classes) if by_class else (rows, 1)
                bad |= put_piece(x, i, j, rows, start, classes, v)
                for k in range(rows):
                    own = labels[k] - start
                    if labels[k] < 0:
                        for c in range(classes):
                            v[k * row_step + c * class_step] = 0.0
                    elif event:
                        v[k] -= labels[k]
                    elif own >= 0 and own < classes:
                        v[k * row_step + own * class_step] -= 1.0
                loss += sum_of_squares(v, classes * rows)
            count(partials, b, loss, counted, counted)
            r += rows
        if bad:
            partials[b, 3] = -1.0


@called
def find_largest(x, i, start, rows, most, best):
    """The largest elements of the rows x[i, :, start : start + rows], NaN left out, and the first classes that have them."""
    outer_step, class_step, lane_step = x.strides
    for k in range(rows):
        most[k], best[k] = -np.inf, 0
    if class_step == x.itemsize and x.shape[1] >= AT_ONCE:
        for k in range(rows):
            own = elements_from(x, i * outer_step + (start + k) * lane_step, x.shape[1])
            for c in range(own.size):
                value = np.float64(load(own, c))
                if value > most[k]:
                    most[k], best[k] = value, c
        return
    for c in range(x.shape[1]):
        lanes = span(row(x, i, c), start, start + rows)
        for k in range(rows):
            value = np.float64(load(lanes, k))
            best[k] = c if value > most[k] else best[k]
            most[k] = value if value > most[k] else most[k]


@called
def bin_of(confidence, edges):
    """The first bin whose upper edge is not below the confidence; the last for NaN."""
    last = edges.size - 1
    guess = confidence * edges.size
    found = last
    if guess < edges.size:
        found = np.intp(guess) if guess > 0.0 else 0
    while found > 0 and edges[found - 1] >= confidence:
        found -= 1
    while found < last and edges[found] < confidence:
        found += 1
    return found


def calibration_columns(
    x,  # IN (outer, n_classes, inner)
    target,  # IN (outer, inner) any integer dtype
    edges,  # IN (bins,) the bins' upper edges
    ignore_index,
    event,  # IN as above
    block,  # IN rows per block
    first,
    last,
    partials,  # OUT (n_blocks, 4 + 3 * bins)
):
    """Confidences, hits and rows in each bin."""
    outer, n_classes, inner = x.shape
    bins = edges.size
    most, best = new_piece(np.float64), new_labels(np.int64)
    for b in range(first, last):
        start_block(partials, b)
        for k in range(3 * bins):
            partials[b, 4 + k] = 0.0
        r, end = b * block, smaller((b + 1) * block, outer * inner)
        bad = False
        while r < end:
            i, j = r // inner, r % inner
            rows = smaller(AT_ONCE, smaller(inner - j, end - r))
            beyond = rows_beyond(x, i, j, j + rows)
            find_largest(x, i, j, rows, most, best)
            for k in range(rows):
                label = target[i, j + k]
                if is_ignored(label, ignore_index):
                    continue
                if not is_class(label, 2 if event else n_classes):
                    note_bad(partials, b, r + k)
                    continue
                confidence = most[k]
                if beyond:
                    for c in range(n_classes):
                        value = np.float64(load(row(x, i, c), j + k))
                        confidence = confidence if value == value else value
                hit = label == 1 if event else label == best[k]
                found = bin_of(confidence, edges)
                partials[b, 4 + found] += confidence
                partials[b, 4 + bins + found] += 1.0 if hit else 0.0
                partials[b, 4 + 2 * bins + found] += 1.0
            bad |= beyond
            r += rows
        if bad:
            partials[b, 3] = -1.0


TEMPLATES = {"distance_columns": distance_columns, "calibration_columns": calibration_columns}


def kernel(op, real):
    """The kernel `op` (a name in TEMPLATES), for operands of the type `real` or narrower."""
    return specialise(TEMPLATES[op], f"{op}_{np.dtype(real).name}", takes_strides=across)
