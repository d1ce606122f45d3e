"""Kernels of the pointwise losses: values and slopes over device arrays.

`vectors` is for operands that are contiguous, or one number each; `strided` for any strides, including 0 for broadcast
axes, one element per thread at a time; `lanes` sums over some axes, one output per block or per thread; `outside` finds
values outside an operand's domain.  Threads sum losses in compensated pairs of Real; from there on sums are float64.
Where float32 overflows on the way, the result is computed again in float64, after the streaming loop: an element if its
result is not finite, a thread's sum if that is not.  Squares of float64 that are outside its range are summed again, of
errors times a power of two.  An element of weight 0 counts as 0 even if it is NaN or infinite.

Roles: x prediction, y target, z third operand, w weights: addresses of device memory, or numbers.  p: a tuple of the
loss's parameters, of at least one number.
"""

import functools
import math

import numpy as np

from fastloss import _reduce, losses
from fastloss.backends.numba_cuda import _jit, _settle, _softmax, _target
from fastloss.backends.numba_cuda._compiler import cuda
from fastloss.backends.numba_cuda._settle import LOSS, NO_BAD, TOTALS
from fastloss.backends.numba_cuda._softmax import LOG2E, MAGIC
from fastloss.backends.numba_cuda._target import block, fma, larger, n_blocks, sync, thread, two_to

THREADS = 8 if _target.SIMULATED else 256
BLOCKS = 2048  # at most, each of which goes on to further elements: what blocks leave is added up by one of them
TOTAL, EACH, SLOPE = range(3)
MODES = {
    "sum": _settle.SUM,
    "weight": _settle.BY_WEIGHT,
    "number": _settle.BY_NUMBER,
    "class weight": _settle.BY_CLASS_WEIGHT,
}

Real = N = OP = WEIGHTED = BY_BLOCK = None  # holes
value = slope = settle = added = add_up = value_of = None  # holes: the formula, and what is done with its values
get_x = get_y = get_z = get_w = None  # holes: N elements to a local array
read_x = read_y = read_z = read_w = None  # holes: one element
write = put = None  # holes: one element, N elements
CAREFUL = again = None  # holes: whether Real is float32, and `redone`
AFTER = None  # a hole: whether the kernel follows another, whose squares may have left the range; then the loss is of one parameter
ROOTED = scaled_value = (
    None  # holes of `lanes`: whether squares may leave the range, and those of errors times a power of two
)
read_sum = None  # a hole


# --- operands ---------------------------------------------------------------------------------------------------------


def read_number(x, i):
    return Real(x)


def read_nothing(x, i):
    return Real(1.0)


def read_one(x, i):
    return read(x, 0)


def get_vectors(x, i, out):
    for k in range(N // n):
        read(x, i + k * n, out, k * n)


def get_elements(x, i, out):
    for k in range(N):
        out[k] = read(x, i + k)


def get_same(x, i, out):
    for k in range(N):
        out[k] = read(x, 0)


def put_vectors(out, i, values):
    for k in range(N // n):
        write(out, i + k * n, values, k * n)


def put_elements(out, i, values):
    for k in range(N):
        write(out, i + k, values[k])


read = n = None  # holes of these


# --- operations on values and weights ---------------------------------------------------------------------------------


def weighed(value, weight):
    return value * weight if weight != Real(0.0) else Real(0.0)


def finite(value):
    return abs(value) < Real(math.inf)


def doubtful(total, root):
    """Whether a thread's sum has overflowed, or a sum of squares under a root has underflowed."""
    return not abs(total) < Real(math.inf) or root != 0.0 and total < Real(LEAST)


LEAST = 2.0**-80  # in a larger sum, all squares that are not negligible are normal numbers


def step_of(scale):
    """What slopes are multiplied by; NaN, so that all are computed again in float64, if that has too few digits in float32."""
    return Real(scale) if scale == 0.0 or not CAREFUL or LEAST <= abs(scale) <= 1.0 / LEAST else Real(math.nan)


SMALL, FAR_ROOT = _reduce.SMALL_SQUARES, _reduce.FAR_ROOT


def power_for(total):
    """The power of two that errors are to be multiplied by before they are squared, given the sum of their squares in float64."""
    if total == math.inf or total == -math.inf:
        return 1.0 / FAR_ROOT
    return FAR_ROOT if abs(total) < SMALL else 1.0


read_out = None  # a hole: an element of `out`


def redone(x, y, z, w, at_x, at_y, at_z, at_w, i, p, out, scale):
    """weight * loss, and the weight, in float64; also writes element i of `out` if that is not finite."""
    xs, ys, zs, weight = read_x(x, at_x), read_y(y, at_y), read_z(z, at_z), read_w(w, at_w)
    loss = value(xs, ys, zs, p)
    if OP != TOTAL:
        if not abs(read_out(out, i)) < math.inf:
            v = loss if OP == EACH else slope(xs, ys, zs, p)
            write(out, i, np.float32(weighed(v, weight) * scale))
    return weighed(loss, weight), weight


# --- kernels ----------------------------------------------------------------------------------------------------------


def vectors(x, y, z, w, p, size, out, scale, ws, result, mode, factor, divisor, root):
    xs, ys = cuda.local.array(N, Real), cuda.local.array(N, Real)
    zs, vs = cuda.local.array(N, Real), cuda.local.array(N, Real)
    sums = cuda.shared.array((THREADS, 4), np.float64)
    step = step_of(scale)
    total, low, weights, weights_low = Real(0.0), Real(0.0), Real(0.0), Real(0.0)
    odd, count = False, 0.0
    if AFTER:
        by = power_for(read_sum(ws, TOTALS + LOSS))
        if by == 1.0:
            return
        p, root = (by,), root / by
        count = by if block() == 0 and thread() == 0 else 0.0  # so that the host learns of it
    group = block() * THREADS + thread()
    while group < size // N:
        i = group * N
        get_x(x, i, xs)
        get_y(y, i, ys)
        get_z(z, i, zs)
        get_w(w, i, vs)
        if OP != EACH:
            term, weight = Real(0.0), Real(0.0)
            for k in range(N):
                loss = value(xs[k], ys[k], zs[k], p)
                term += weighed(loss, vs[k]) if WEIGHTED else loss
                weight += vs[k]
            total, low = added(total, low, term)
            if WEIGHTED:
                weights, weights_low = added(weights, weights_low, weight)
        if OP != TOTAL:
            for k in range(N):
                v = value(xs[k], ys[k], zs[k], p) if OP == EACH else slope(xs[k], ys[k], zs[k], p)
                xs[k] = weighed(v, vs[k] * step) if WEIGHTED else v * step
                odd = odd or not finite(xs[k])
            put(out, i, xs)
        group += n_blocks() * THREADS
    i = size // N * N + thread()
    if block() == 0 and i < size:
        loss = value(read_x(x, i), read_y(y, i), read_z(z, i), p)
        weight = read_w(w, i)
        if OP != EACH:
            total, low = added(total, low, weighed(loss, weight))
            weights, weights_low = added(weights, weights_low, weight)
        if OP != TOTAL:
            v = loss if OP == EACH else slope(read_x(x, i), read_y(y, i), read_z(z, i), p)
            v = weighed(v, weight * step)
            odd = odd or not finite(v)
            write(out, i, v)
    exact = np.float64(total) - np.float64(low)
    exact_weight = np.float64(weights) - np.float64(weights_low)
    if CAREFUL and (odd or doubtful(total, root) or not finite(weights)):
        mended, mended_weight = 0.0, 0.0
        group = block() * THREADS + thread()
        while group < size // N:
            for k in range(N):
                i = group * N + k
                more, more_weight = again(x, y, z, w, i, i, i, i, i, p, out, scale)
                mended, mended_weight = mended + more, mended_weight + more_weight
            group += n_blocks() * THREADS
        i = size // N * N + thread()
        if block() == 0 and i < size:
            more, more_weight = again(x, y, z, w, i, i, i, i, i, p, out, scale)
            mended, mended_weight = mended + more, mended_weight + more_weight
        exact = mended if doubtful(total, root) else exact
        exact_weight = exact_weight if finite(weights) else mended_weight
    if OP != EACH:
        settle(
            sums, exact, exact_weight, count, NO_BAD, ws, result, mode, factor, divisor, root,
        )  # fmt: skip


def offsets(i, shape, x_strides, y_strides, z_strides, w_strides):
    """The offsets of the operands' elements at position i in C order."""
    at_x, at_y, at_z, at_w = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    for axis in range(len(shape)):
        k = len(shape) - 1 - axis
        rest = i // shape[k]
        j = i - rest * shape[k]
        at_x += j * x_strides[k]
        at_y += j * y_strides[k]
        at_z += j * z_strides[k]
        at_w += j * w_strides[k]
        i = rest
    return at_x, at_y, at_z, at_w


def strided(
    x, y, z, w, p, size,
    shape, x_strides, y_strides, z_strides, w_strides,  # IN the common shape; in elements, 0 where broadcast
    out, scale, ws, result, mode, factor, divisor, root,
):  # fmt: skip
    sums = cuda.shared.array((THREADS, 4), np.float64)
    step = step_of(scale)
    total, low, weights, weights_low = Real(0.0), Real(0.0), Real(0.0), Real(0.0)
    odd, count = False, 0.0
    if AFTER:
        by = power_for(read_sum(ws, TOTALS + LOSS))
        if by == 1.0:
            return
        p, root = (by,), root / by
        count = by if block() == 0 and thread() == 0 else 0.0  # so that the host learns of it
    i = block() * THREADS + thread()
    while i < size:
        at_x, at_y, at_z, at_w = offsets(i, shape, x_strides, y_strides, z_strides, w_strides)
        xs, ys, zs, weight = read_x(x, at_x), read_y(y, at_y), read_z(z, at_z), read_w(w, at_w)
        if OP != EACH:
            total, low = added(total, low, weighed(value(xs, ys, zs, p), weight))
            weights, weights_low = added(weights, weights_low, weight)
        if OP != TOTAL:
            v = value(xs, ys, zs, p) if OP == EACH else slope(xs, ys, zs, p)
            v = weighed(v, weight * step)
            odd = odd or not finite(v)
            write(out, i, v)
        i += n_blocks() * THREADS
    exact = np.float64(total) - np.float64(low)
    exact_weight = np.float64(weights) - np.float64(weights_low)
    if CAREFUL and (odd or doubtful(total, root) or not finite(weights)):
        mended, mended_weight = 0.0, 0.0
        i = block() * THREADS + thread()
        while i < size:
            at_x, at_y, at_z, at_w = offsets(i, shape, x_strides, y_strides, z_strides, w_strides)
            more, more_weight = again(x, y, z, w, at_x, at_y, at_z, at_w, i, p, out, scale)
            mended, mended_weight = mended + more, mended_weight + more_weight
            i += n_blocks() * THREADS
        exact = mended if doubtful(total, root) else exact
        exact_weight = exact_weight if finite(weights) else mended_weight
    if OP != EACH:
        settle(
            sums, exact, exact_weight, count, NO_BAD, ws, result, mode, factor, divisor, root,
        )  # fmt: skip


def lanes(
    x, y, z, w, p,
    size, shape, x_outer, y_outer, z_outer, w_outer,  # IN outputs, their shape, strides along the axes that are kept
    n, lengths, x_strides, y_strides, z_strides, w_strides,  # IN elements of each, and likewise along those that are reduced
    out, mode, factor, divisor, root,
):  # fmt: skip
    """out[i], the sum or mean over some axes; weights count only in sums and means by weight."""
    sums = cuda.shared.array((THREADS, 4), np.float64)
    i = block() if BY_BLOCK else block() * THREADS + thread()
    while i < size:
        from_x, from_y, from_z, from_w = offsets(i, shape, x_outer, y_outer, z_outer, w_outer)
        total, low, weights, weights_low = Real(0.0), Real(0.0), Real(0.0), Real(0.0)
        j = np.int64(thread()) if BY_BLOCK else np.int64(0)
        while j < n:
            at_x, at_y, at_z, at_w = offsets(j, lengths, x_strides, y_strides, z_strides, w_strides)
            weight = read_w(w, from_w + at_w)
            loss = value(read_x(x, from_x + at_x), read_y(y, from_y + at_y), read_z(z, from_z + at_z), p)
            total, low = added(total, low, weighed(loss, weight))
            weights, weights_low = added(weights, weights_low, weight)
            j += THREADS if BY_BLOCK else 1
        exact = np.float64(total) - np.float64(low)
        exact_weight = np.float64(weights) - np.float64(weights_low)
        if CAREFUL and (doubtful(total, root) or not finite(weights)):
            mended, mended_weight = 0.0, 0.0
            j = np.int64(thread()) if BY_BLOCK else np.int64(0)
            while j < n:
                at_x, at_y, at_z, at_w = offsets(j, lengths, x_strides, y_strides, z_strides, w_strides)
                more, more_weight = again(
                    x, y, z, w, from_x + at_x, from_y + at_y, from_z + at_z, from_w + at_w, i, p, out, factor
                )  # fmt: skip
                mended, mended_weight = mended + more, mended_weight + more_weight
                j += THREADS if BY_BLOCK else 1
            exact = mended if doubtful(total, root) else exact
            exact_weight = exact_weight if finite(weights) else mended_weight
        if BY_BLOCK:
            add_up(sums, exact, exact_weight, 0.0, NO_BAD)
            if ROOTED:
                sync()
            exact, exact_weight = sums[0, 0], sums[0, 1]
        by = 1.0
        if ROOTED:
            by = power_for(exact)
            if by != 1.0:
                exact = 0.0
                j = np.int64(thread()) if BY_BLOCK else np.int64(0)
                while j < n:
                    at_x, at_y, at_z, at_w = offsets(j, lengths, x_strides, y_strides, z_strides, w_strides)
                    square = scaled_value(read_x(x, from_x + at_x), read_y(y, from_y + at_y), 0.0, (by,))
                    exact += weighed(square, read_w(w, from_w + at_w))
                    j += THREADS if BY_BLOCK else 1
                if BY_BLOCK:
                    add_up(sums, exact, 0.0, 0.0, NO_BAD)
                    sync()
                    exact = sums[0, 0]
        if not BY_BLOCK or thread() == 0:
            write(out, i, Real(value_of(exact * factor, exact_weight * factor, mode, divisor, root / by)))
        i += n_blocks() if BY_BLOCK else n_blocks() * THREADS


def outside(x, size, shape, x_strides, least, most, ws):
    """Write the position of the first element outside [least, most] to TOTALS; NaN is allowed."""
    sums = cuda.shared.array((THREADS, 4), np.float64)
    bad = NO_BAD
    i = block() * THREADS + thread()
    while i < size:
        at, _, _, _ = offsets(i, shape, x_strides, x_strides, x_strides, x_strides)
        v = np.float64(read_x(x, at))
        if v < least or v > most:
            bad = np.float64(i) if np.float64(i) < bad else bad
        i += n_blocks() * THREADS
    settle(sums, 0.0, 0.0, 0.0, bad, ws, 0, 0, 1.0, 1.0, False)


# --- formulas of any number of operands and parameters ----------------------------------------------------------------


def of_one(x, y, z, p):
    return x


# Polynomials, the highest power first: log1p(e) / e on [0, 1], to 5e-9, and (e^r - 1 - r) / r^2 for |r| <= log(2) / 2, to 2^-28 of e^r.
_LOG1P = (
    -0.0031760570127516985, 0.019542526453733444, -0.056373611092567444, 0.10543623566627502, -0.1526966691017151,
    0.1966327428817749, -0.24951615929603577, 0.33329710364341736, -0.49999892711639404, 1.0,
)  # fmt: skip
_EXP = (0.0013814570847898722, 0.008368730545043945, 0.04166838899254799, 0.1666652113199234, 0.4999999403953552)
# (-log(1 - u) - u) / u^2 in u - 1/4, u on [0, 1/2], to 2^-28 of the logarithm.
_COMPLEMENT = (
    1.74593393706, 1.00956371273, 0.688051843157, 0.639356369386, 0.569893764067, 0.518457068756, 0.49537389587,
    0.510028061964, 0.602913176201,
)  # fmt: skip
LN2_SINGLE = float(np.float32(math.log(2.0)))
LN2_REST = 1.9046542999463095e-09  # LN2_SINGLE - log(2)
LEAST_EXPONENT, MOST_EXPONENT = -104.0, 89.0  # of which the powers are 0 and infinite in float32


def softplus_tail(a):
    """log1p(exp(-a)) for a >= 0 in float32, without log1p's handling of other arguments."""
    e = decay(a)
    p = Real(_LOG1P[0])
    for k in range(1, 10):
        p = p * e + Real(_LOG1P[k])
    return e * p


def log_complement_rest(u):
    """-log(1 - u) - u for 0 <= u <= 1/2 in float32."""
    p = Real(_COMPLEMENT[0])
    for k in range(1, len(_COMPLEMENT)):
        p = fma(p, u - Real(0.25), Real(_COMPLEMENT[k]))
    return u * u * p


def power_of(x):
    """exp(x) in float32 for |x| <= 104 as (e, low, z): (e + low) 2^n, where z is n plus MAGIC and low what e was rounded by.  Made of IEEE
    arithmetic alone, so that it is the same on every GPU; what the hardware has for 2^x may be off by 2 ulp."""
    z = fma(x, Real(LOG2E), Real(MAGIC))
    n = z - Real(MAGIC)
    near = fma(n, Real(-LN2_SINGLE), x)  # exact
    rest = n * Real(LN2_REST)
    r = near + rest
    q = Real(_EXP[0])
    for k in range(1, len(_EXP)):
        q = fma(q, r, Real(_EXP[k]))
    p = r + fma(q, r * r, (near - r) + rest)
    e = Real(1.0) + p
    return e, p - (e - Real(1.0)), z


def decay(a):
    """exp(-a) for a >= 0 in float32."""
    e, low, z = power_of(Real(LEAST_EXPONENT) if a > Real(-LEAST_EXPONENT) else -a)
    return e * two_to(z + Real(24.0)) * Real(2.0**-24)  # n may be less than that of a normal number


def exponent_within(x):
    """x, but not beyond what has the power 0 or infinity; NaN stays."""
    x = Real(LEAST_EXPONENT) if x < Real(LEAST_EXPONENT) else x
    return Real(MOST_EXPONENT) if x > Real(MOST_EXPONENT) else x


def exp_single(x):
    """exp(x) in float32."""
    e, low, z = power_of(exponent_within(x))
    half = fma(z - Real(MAGIC), Real(0.5), Real(MAGIC))
    return e * two_to(half) * two_to(z - (half - Real(MAGIC)))


def expm1_single(x):
    """exp(x) - 1 in float32; NaN instead of some numbers above 2^127, for which the result is computed again."""
    e, low, z = power_of(exponent_within(x))
    by = two_to(larger(z, Real(MAGIC - 126.0)))
    return fma((e - Real(1.0)) + low, by, by - Real(1.0))


def log_low(x, x_low, logarithm):
    """What the logarithm of x + x_low lacks in float32, by one of Newton's steps; 0 where x is 0 or infinite."""
    e, low, z = power_of(-min(max(-logarithm, Real(-88.0)), Real(87.0)))
    by = two_to(z)
    back = e * by
    low = ((x - back) + (x_low - low * by)) / back
    return low if abs(low) < Real(0.01) else Real(0.0)


# What takes the place of the text's functions in float32; and where operands are halves and nothing makes more of what an exponential is off
# by, which is then left to the hardware.
FOR_HALVES = (("softplus_tail", softplus_tail),)
FOR_SINGLE = (
    *FOR_HALVES,
    ("power_of", power_of),
    ("exponent_within", exponent_within),
    ("decay", decay),
    ("exp", exp_single),
    ("expm1", expm1_single),
    ("log_low", log_low),
    ("log_complement_rest", log_complement_rest),
)


def of_halves(kinds):
    """Whether all arrays among operands of these kinds are halves."""
    names = [kind[0] for kind in kinds if isinstance(kind, tuple)]
    return bool(names) and all(name.endswith("float16") for name in names)


def _formula(loss, which, real, halves=False):
    if loss is None:
        return _target.inlined(of_one)
    name = loss.value if which == "value" else loss.slope
    template = _jit.called_with(loss.operands, len(loss.parameters))
    shorter = ()
    if real == "float32" and loss.text is None:
        shorter = FOR_HALVES if halves and loss.odds else FOR_SINGLE
    holes = {"formula": _jit.formulas(real, shorter, loss.text)[name], "Real": np.dtype(real).type}
    return _jit.inlined(template, f"{loss.name}_{which}_{real}{'_halves' * halves}", **holes)


# --- making kernels ---------------------------------------------------------------------------------------------------


@functools.cache
def _operand(kind, real, count):
    """(reader of one element, reader of `count`) for an operand; `kind` is (dtype name, "vectors", "elements" or
    "one")."""
    if kind is None or kind == "number":
        read = _jit.inlined(read_number if kind else read_nothing, real, Real=np.dtype(real).type)
        return read, _jit.inlined(get_same, f"{kind}_{real}_{count}", read=read, N=count)
    name, how = kind
    read = _target.reader(name, real)
    purpose = f"{name}_{how}_{real}_{count}"
    if how == "one":
        read = _jit.inlined(read_one, f"{name}_{real}", read=read)
        return read, _jit.inlined(get_same, purpose, read=read, N=count)
    n = _target.VECTOR // _target.SIZES[name]
    if how == "elements" or n > count:
        return read, _jit.inlined(get_elements, purpose, read=read, N=count)
    return read, _jit.inlined(get_vectors, purpose, read=_target.vector_reader(name, real), N=count, n=n)


TEMPLATES = {f.__name__: f for f in (vectors, strided, lanes, outside)}


def elements(kinds):
    """How many elements a thread of `vectors` processes together for operands of these kinds: as many as one load of
    the narrowest holds."""
    sizes = [_target.SIZES[kind[0]] for kind in kinds if isinstance(kind, tuple) and kind[1] != "one"]
    return _target.VECTOR // max(2, min(sizes, default=8))


@functools.cache
def _added(real):
    """Adds to a compensated sum; where nothing is computed again, one that may become infinite."""
    if real == "float32":
        return _target.inlined(_softmax.added)
    return _jit.inlined(_softmax.added_to_any, real, Real=np.float64, added=_target.inlined(_softmax.added))


def _never(x, y, z, w, at_x, at_y, at_z, at_w, i, p, out, scale):
    return 0.0, 0.0


def _again(loss, op, purpose, kinds):
    """`redone` for a kernel in float32."""
    operands = [_operand(kind, "float64", 1)[0] for kind in kinds]
    return _jit.inlined(
        redone,
        purpose,
        OP=op,
        value=_formula(loss, "value", "float64"),
        slope=_formula(loss, "slope", "float64"),
        weighed=_jit.inlined(weighed, "float64", Real=np.float64),
        read_out=_target.reader("float32", "float32"),
        write=_target.writer("float32"),
        **{f"read_{name}": read for name, read in zip("xyzw", operands, strict=True)},
    )


@functools.cache
def kernel(template, loss, op, real, kinds, aligned_out=True, by_block=False, rooted=False):
    """A kernel for a loss, or for copying if it is None; `kinds` are those of x, y, z and w, see `_operand`, or
    None.

    rooted : whether squares of float64 are summed again if they have left its range: by `lanes` themselves, by the others if
        another kernel has found that.
    """
    count = elements(kinds) if template == "vectors" else 1
    Scalar = np.dtype(real).type
    operands = [_operand(kind, real, count) for kind in kinds]
    purpose = "_".join(
        (
            loss.name if loss else "copy",
            str(op),
            real,
            *("-".join(kind) if isinstance(kind, tuple) else str(kind) for kind in kinds),
            f"{aligned_out}{by_block}{rooted}",
        )
    )
    n = _target.VECTOR // _target.SIZES[real]
    write = _target.writer(real)
    if aligned_out and count % n == 0:
        put = _jit.inlined(put_vectors, purpose, write=_target.vector_writer(real), N=count, n=n)
    else:
        put = _jit.inlined(put_elements, purpose, write=write, N=count)
    weigh = _jit.inlined(weighed, real, Real=Scalar)
    careful, halves = real == "float32", of_halves(kinds[:3])
    return _jit.kernel(
        TEMPLATES[template],
        purpose,
        THREADS,
        Real=Scalar,
        N=count,
        OP=op,
        WEIGHTED=kinds[3] is not None,
        BY_BLOCK=by_block,
        value=_formula(loss, "value", real, halves),
        slope=_formula(loss, "slope", real, halves),
        weighed=weigh,
        finite=_jit.inlined(finite, real, Real=Scalar),
        doubtful=_jit.inlined(doubtful, real, Real=Scalar),
        step_of=_jit.inlined(step_of, real, Real=Scalar, CAREFUL=careful),
        CAREFUL=careful,
        AFTER=rooted and template != "lanes",
        ROOTED=rooted,
        scaled_value=_formula(losses.MSE_SCALED if rooted else None, "value", real),
        power_for=_target.inlined(power_for),
        read_sum=_target.fresh_reader(),
        again=_again(loss, op, purpose, kinds) if careful else _target.inlined(_never),
        added=_added(real),
        offsets=_target.inlined(offsets),
        write=write,
        put=put,
        **{f"read_{name}": read for name, (read, _) in zip("xyzw", operands, strict=True)},
        **{f"get_{name}": get for name, (_, get) in zip("xyzw", operands, strict=True)},
        **_settle.functions(THREADS, real),
    )


# --- copying ----------------------------------------------------------------------------------------------------------


def copy_packed(x, size, shape, strides, out):
    """out[i] = x at position i in C order: copies to contiguous memory."""
    i = block() * THREADS + thread()
    while i < size:
        at, _, _, _ = offsets(i, shape, strides, strides, strides, strides)
        write(out, i, read(x, at))
        i += n_blocks() * THREADS


def copy_spread(x, size, shape, strides, out):
    """out at position i in C order = x[i]: copies from contiguous memory."""
    i = block() * THREADS + thread()
    while i < size:
        at, _, _, _ = offsets(i, shape, strides, strides, strides, strides)
        write(out, at, read(x, i))
        i += n_blocks() * THREADS


def fill_zeroes(size, out):
    i = block() * THREADS + thread()
    while i < size:
        write(out, i, Real(0.0))
        i += n_blocks() * THREADS


@functools.cache
def zeroes(name):
    """A kernel that sets contiguous floats to 0."""
    return _jit.kernel(fill_zeroes, name, THREADS, write=_target.writer(name), Real=np.dtype(name).type)


@functools.cache
def mover(size):
    """`copy_packed` for elements of `size` bytes, of any type."""
    name = {1: "int8", 2: "int16", 4: "int32", 8: "int64"}[size]
    holes = {"read": _target.raw_reader(name), "write": _target.writer(name), "offsets": _target.inlined(offsets)}
    return _jit.kernel(copy_packed, name, THREADS, **holes)


@functools.cache
def converter(source, target):
    """`copy_spread` from one floating type to another."""
    real = "float64" if target == "float64" else "float32"
    holes = {"read": _target.reader(source, real), "write": _target.writer(target), "offsets": _target.inlined(offsets)}
    return _jit.kernel(copy_spread, f"{source}_{target}", THREADS, **holes)


assert math.log2(THREADS).is_integer()
