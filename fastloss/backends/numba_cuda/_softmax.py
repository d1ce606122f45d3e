"""The algebra of the softmax family on CUDA: what a thread computes from its share of a row, how shares merge, and the
results.

One element of a row is excluded: the target or, if there is none, the largest.  The others are described by their
maximum r and s = sum exp(x - r) - 1, the sum without the maximum's own 1; s is -1 if there are no others.  So an error
of the exponentials matters no more than e^d there, and

    -log softmax(left) = log1p((1 + s) exp(r - left))        where left >= r
                       = (r - left) + log1p(s + exp(left - r))    otherwise

keep the relative accuracy of tiny losses, and of a logsumexp near a maximum of 0.  They are computed in float64, once
per row.

The accuracy required of a row's loss from float32 logits is higher than the rounding errors of x - r, of its product
with log2(e), of the sum, and of the hardware's exponential allow: all four are corrected for.  Otherwise a sum of many
equal terms far below the maximum would be off by ten ulp.  Sums over classes of coefficients q times losses (label
smoothing, class probabilities) are kept as `share` = sum q (top - x) and `mass` = sum q, with top the largest so far.

Templates' holes: Real, the type that is computed in; Int, one that holds positions in a row; LONG, whether a row has many batches; ONCE, whether it has one; N elements per vector, V vectors per batch, BATCH = N V; LABELED whether there is
a target to be left out; SPREAD whether there are coefficients q, DENSE whether they come with each element; BEST and RANK for scores.

References
----------
Milakov, M., Gimelshein, N. (2018). Online normalizer calculation for softmax. arXiv:1805.02867.
"""

import math

import numpy as np

from fastloss.backends.numba_cuda import _jit
from fastloss.backends.numba_cuda._target import (
    exp,
    fma,
    hardware_exp,
    lane,
    larger,
    log1p,
    shuffle_xor,
    two_to,
    two_to_fraction,
)

INF, NAN = math.inf, math.nan
LOG2E = math.log2(math.e)
LOG2E_SINGLE = float(np.float32(LOG2E))
LOG2E_REST = 1.9259629911266175e-08  # log2(e) - LOG2E_SINGLE

MAGIC = 1.5 * 2**23  # a float32 plus this is a whole number plus this
NEAR = 2.0**20  # logits below which products with log2(e) have bits left for a fraction
NEAR_HALVES = 2.0**12  # below which 2 to the power of what such a product is rounded by is 1 plus that, times log(2)
LN2 = math.log(2.0)

# What a second sweep over a row writes.
NONE, GRADIENT, LOGS, POWERS = range(4)

Real = Int = LONG = ONCE = N = V = BATCH = LABELED = SPREAD = DENSE = BEST = RANK = GROUP = None  # holes
read = read_vector = read_masked = read_target = read_weight = power = powers = fill = None  # likewise
anyone = highest_among = leading = None  # holes: `alone` and so on


def split(base):
    """What `power_near` wants to know of a base: what is subtracted from both first; the base times log2(e) as a whole number and a rest of at
    most 1/2: the former subtracted from MAGIC, both together, and the rest to twice the digits."""
    far = base if not abs(base) < Real(NEAR) else Real(0.0)  # of what is near to it the difference is exact
    base = base - far
    whole = fma(base, Real(LOG2E_SINGLE), Real(MAGIC)) - Real(MAGIC)
    part = fma(base, Real(LOG2E_SINGLE), -whole)
    return far, Real(MAGIC) - whole, whole + part, fma(base, Real(LOG2E_REST), part)


def power_near(x, offset, together, rest):
    """exp(x - base) for x <= base in float32 to 1.4 ulp, 1 where they are equal; 0 below the smallest normal number.

    x log2(e) = k + f with k a whole number, which is rounded once, and base log2(e) likewise: the difference of what is left is small,
    so nothing is lost of a gap of a hundred.  2^f is a polynomial: what the hardware has for it is off by 2 ulp.
    """
    z = fma(x, Real(LOG2E_SINGLE), -together) + Real(MAGIC)
    k = z - offset
    f = fma(x, Real(LOG2E_REST), fma(x, Real(LOG2E_SINGLE), -k) - rest)
    power = two_to_fraction(f) * two_to(z)
    return Real(0.0) if z < Real(MAGIC - 125.0) else power  # a select, which NaN passes


def power_careful(x, base):
    """exp(x - base) for x <= base in float32."""
    far, offset, together, rest = split(base)
    return power_near(x - far, offset, together, rest)


def powers_careful(batch, base):
    """exp(x - base) in place of each x <= base."""
    far, offset, together, rest = split(base)
    if far != Real(0.0):
        for k in range(BATCH):
            batch[k] = batch[k] - far
    for k in range(BATCH):
        batch[k] = power_near(batch[k], offset, together, rest)


def power_quick(x, base):
    """exp(x - base) for x <= base, as accurate as a term of s must be; for halves, plain float32 is accurate enough."""
    return hardware_exp((x - base) * Real(LOG2E))


def power_double(x, base):
    return exp(x - base)


def powers_plain(batch, base):
    """exp(x - base) in place of each x <= base."""
    for k in range(BATCH):
        batch[k] = power(batch[k], base)


def exponential(name, real):
    """The hole `power` for logits of dtype `name` and arithmetic in `real`, with what it is made of."""
    power = power_careful if name == "float32" else power_quick if real == "float32" else power_double
    made = _jit.family((split, power_near, power), real, Real=np.dtype(real).type)
    return made | {"power": made[power.__name__]}


def exactly_powered(x, base):
    """exp(x - base) for x <= base, to about 2 ulp however far apart they are."""
    d = x - base
    there = d - x
    low = (x - (d - there)) - (base + there)
    p = exp(d)
    return fma(p, low, p) if d > Real(-INF) else p


def added(total, low, term):
    """total - low + term as such a pair again (Kahan 1965)."""
    y = term - low
    t = total + y
    return t, (t - total) - y


def added_to_any(total, low, term):
    """The same where the total may become infinite, and then stays so."""
    total, low = added(total, low, term)
    return total, low if low == low else Real(0.0)


def rescaled(total, low, scale):
    """(total - low) * scale as such a pair."""
    product = total * scale
    return product, low * scale - fma(total, scale, -product)


def halved(batch, n):
    """Add up neighbours among the first n; how many sums that makes."""
    for k in range(n // 2):
        batch[k] = batch[2 * k] + batch[2 * k + 1]
    if n % 2:
        batch[n // 2] = batch[n - 1]
    return n - n // 2


def in_eights(batch):
    """Add up the elements of a batch by eights, in trees, which are exact where terms are equal; how many sums that makes."""
    return halved(batch, halved(batch, halved(batch, BATCH)))


# --- a batch of elements into registers; beyond the row's end they are -inf -------------------------------------------------


def fill_vectors(batch, x, origin, stride, first, offset, step, end):
    """Load vectors first + offset, first + offset + step, ... of a row whose classes are neighbours and whose vectors
    are aligned.

    The test for a complete batch is the same in all threads of a warp: if they branched differently, some would wait
    for the others' loads.
    """
    at = first + offset
    if first + V * step <= end:
        for v in range(V):
            read_vector(x, origin + at + v * step, batch, v * N)
    else:
        for v in range(V):
            read_masked(x, origin + at + v * step, batch, v * N, at + v * step < end)


def fill_once(batch, x, origin, stride, first, offset, step, end):
    """The same where a row has one batch: only its last vectors may be beyond the end."""
    for v in range(V - 1):
        read_vector(x, origin + offset + v * step, batch, v * N)
    at = offset + (V - 1) * step
    read_masked(x, origin + at, batch, (V - 1) * N, at < end)


def fill_elements(batch, x, origin, stride, first, offset, step, end):
    """The same elements one by one, at any stride and alignment."""
    at = first + offset
    if first + V * step <= end:
        for v in range(V):
            for k in range(N):
                batch[v * N + k] = read(x, origin + (at + v * step + k) * stride)
    else:
        for v in range(V):
            for k in range(N):
                c = at + v * step + k
                # without a branch, so that all loads are issued at once, and none beyond the row
                value = read(x, origin + (c if c < end else end - 1) * stride)
                batch[v * N + k] = value if c < end else Real(-INF)


def leave_out(batch, at, step, label):
    """Exclude the label's element from the batch that contains it."""
    for v in range(V):
        k = Int(label - (at + v * step))
        if k >= 0 and k < N:
            for j in range(N):  # a select for each: registers have no index
                batch[v * N + j] = Real(-INF) if j == k else batch[v * N + j]


# --- a thread's share of a row ----------------------------------------------------------------------------------------

# Whose largest element the sums of a thread are relative to: its own, or that of its warp.  The latter seldom changes while a long row is read;
# of 32 threads' own ones some do at almost every step, and a warp takes as long as if all of them did.


def alone(condition):
    return condition


def highest_alone(value):
    return value


def offset_alone(offset):
    return offset


def highest_of_group(value):
    mask = 1
    while mask < GROUP:
        value = larger(value, shuffle_xor(value, mask))
        mask *= 2
    return value


def offset_of_warp(offset):
    return offset - lane() * N


def largest(batch):
    value = batch[0]
    for k in range(1, BATCH):
        value = larger(value, batch[k])
    return value


def exchange(batch, value, other):
    """Put the smaller `other` in the place of one element that is `value`, the largest."""
    if LONG:  # this is rare, and should take few registers
        where = 0
        for k in range(BATCH):
            if batch[BATCH - 1 - k] == value:
                where = BATCH - 1 - k
        for k in range(BATCH):  # a select for each: registers have no index
            batch[k] = other if k == where else batch[k]
    else:  # it moves up until something larger takes its place, and this moves on; NaN stays where it is
        value = other
        for k in range(BATCH):
            v = batch[k]
            batch[k] = value if v > value else v
            value = larger(value, v)


def take_largest(batch):
    """Take the largest element out of a batch, so that there is -inf instead; NaN stays where it is."""
    value = Real(-INF)
    for k in range(BATCH):  # it moves up until something larger takes its place, and this moves on
        v = batch[k]
        batch[k] = value if v > value else v
        value = larger(value, v)
    return value


def before(value, c, level, label):
    """Whether an element comes before the label's, whose value is `level`: NaN first, then larger ones, ties by
    class."""
    equal = value == level or value != value and level != level
    return equal and c < label or value > level or value != value and level == level


def coefficient(c, y, y_origin, y_stride, w, keep, spread):
    """The coefficient of class c in the smoothed, weighted target."""
    q = spread
    if DENSE:
        q += keep * read_target(y, y_origin + c * y_stride)
    return q * read_weight(w, c) if w != 0 else q


def sweep(batch, x, origin, stride, first, offset, step, end, label, left, y, y_origin, y_stride, w, keep, spread):
    """Reduce the vectors first + offset, first + offset + step, ... below `end`, excluding the label's element, `left`.

    first : the same for all threads that sweep together; offset : this thread's.
    anyone, highest_among, leading : `alone` and so on, or of the warp, all lanes of which then have to call this.
    """
    r, s, s_low = Real(-INF), Real(0.0), Real(0.0)
    top = left
    share, share_low, mass, mass_low = Real(0.0), Real(0.0), Real(0.0), Real(0.0)
    best, rank = np.int64(0), np.int64(0)
    is_out = False  # whether an element that is r is excluded from s
    while first + leading(offset) < end:
        at = first + offset
        fill(batch, x, origin, stride, first, offset, step, end)
        if SPREAD:
            high = larger(largest(batch), top)
            if high > top:
                # of halves, as the difference may overflow where its product with a small coefficient does not
                below = Real(2.0) * (mass * (Real(0.5) * high - Real(0.5) * top))
                share, share_low = added_to_any(share, share_low, below if top > Real(-INF) else Real(0.0))
                top = high
            base = Real(0.5) * top if top > Real(-INF) else Real(0.0)
            for v in range(V):
                for k in range(N):
                    c = at + v * step + k
                    if c < end:
                        q = coefficient(c, y, y_origin, y_stride, w, keep, spread)
                        mass, mass_low = added_to_any(mass, mass_low, q)
                        if q != Real(0.0):
                            below = (q + q) * (base - Real(0.5) * batch[v * N + k])
                            share, share_low = added_to_any(share, share_low, below)
        if RANK:
            for v in range(V):
                for k in range(N):
                    c = at + v * step + k
                    if c < end and before(batch[v * N + k], c, left, label):
                        rank += 1
        if LABELED:
            leave_out(batch, at, step, label)
        if ONCE and not BEST:
            if not LABELED:
                left = take_largest(batch)
            r = take_largest(batch)
            is_out = r > Real(-INF)
        else:
            highest = largest(batch)
            if not LABELED:
                if highest > left:
                    exchange(batch, highest, left)
                    left = highest
                    highest = largest(batch)
            if anyone(highest > r):
                high = highest_among(highest)
                less = power(r, high)
                s, s_low = rescaled(s, s_low, less)
                s, s_low = added(s, s_low, less if is_out else Real(0.0))  # the former maximum is one of the others now
                r, is_out = high, highest == high
                if is_out:
                    if BEST:
                        for v in range(V):
                            for k in range(N):
                                if batch[BATCH - 1 - v * N - k] == highest:
                                    best = at + (V - 1 - v) * step + (N - 1 - k)
                    exchange(batch, highest, Real(-INF))
        powers(batch, r if r > Real(-INF) else Real(0.0))
        for k in range(in_eights(batch)):
            s, s_low = added(s, s_low, batch[k])
        first += V * step
    return (
        left,
        r,
        (np.float64(s) - np.float64(s_low)) - (0.0 if is_out else 1.0),  # NaN if one is
        top,
        np.float64(share) - np.float64(share_low),
        np.float64(mass) - np.float64(mass_low),
        best if is_out or r == Real(-INF) else np.int64(2**62),
        rank,
    )


def sweep_halves(
    batch, x, origin, stride, first, offset, step, end, label, left, y, y_origin, y_stride, w, keep, spread
):
    """As `sweep`, of halves with labels where only losses and slopes are asked for: the largest element is among those that s is the sum of.

    A loss that is nearly 0 is as accurate as others, since the label's element is excluded; logsumexp would not be.
    """
    r, s, s_low = Real(-INF), Real(0.0), Real(0.0)
    base, rounded = Real(0.0), Real(0.0)
    while first + leading(offset) < end:
        at = first + offset
        fill(batch, x, origin, stride, first, offset, step, end)
        if label >= first and label < first + V * step:  # the same in all threads that sweep together
            leave_out(batch, at, step, label)
        highest = largest(batch)
        if anyone(highest > r):
            high = larger(highest_among(highest), r)
            # exp(x - high) is 2^(x log2(e) - base) divided by 2 to the power of what base was rounded by
            near = abs(high) < Real(NEAR_HALVES)
            base = high * Real(LOG2E_SINGLE) if near else Real(0.0)
            former, rounded = rounded, fma(high, Real(LOG2E_SINGLE), -base) if near else Real(0.0)
            if not ONCE:
                less = power(r, high)
                s, s_low = rescaled(s, s_low, fma(less, (rounded - former) * Real(LN2), less))
            r = high
        if abs(r) >= Real(NEAR_HALVES) and r > Real(-INF):
            for k in range(BATCH):
                batch[k] = batch[k] - r
        for k in range(BATCH):
            batch[k] = hardware_exp(fma(batch[k], Real(LOG2E_SINGLE), -base))
        for k in range(in_eights(batch)):
            s, s_low = added(s, s_low, batch[k])
        if ONCE:
            break
        first += V * step
    total = (np.float64(s) - np.float64(s_low)) * (1.0 - np.float64(rounded) * LN2)
    return left, r, total - 1.0, Real(-INF), 0.0, 0.0, np.int64(0), np.int64(0)


# --- merging ----------------------------------------------------------------------------------------------------------


def based(x, base):
    """exp(x - base) for x <= base: 1 where they are equal, infinities included."""
    return np.float64(power(x, base)) if x < base else np.float64(1.0)


def sum_of_group(value):
    mask = 1
    while mask < GROUP:
        value += shuffle_xor(value, mask)
        mask *= 2
    return value


def least_of_group(value):
    mask = 1
    while mask < GROUP:
        other = shuffle_xor(value, mask)
        value = other if other < value else value
        mask *= 2
    return value


def merged(left, r, s, top, share, mass, best, rank):
    """Merge the shares of each GROUP of neighbouring lanes; all of them get the result."""
    if not LABELED:
        # the largest excluded element stays excluded, among ties that of the lowest lane; the others join their lanes'
        # sums
        high = highest_of_group(left)
        me = lane() % GROUP
        # by all lanes: a shuffle must not be inside a branch
        winner = least_of_group(me if left == high else GROUP)
        if left > Real(-INF) and me != winner:
            rest = larger(left, r)
            s = based(left, rest) + ((1.0 + s) * based(r, rest) if r > Real(-INF) else 1.0 + s) - 1.0
            r = rest
        left = high
    high = highest_of_group(r)
    share_of_s = (1.0 + s) * based(r, high) if r > Real(-INF) else 1.0 + s
    if BEST:
        first = least_of_group(best if r == high else np.int64(2**62))
        own = r == high and best == first and r > Real(-INF)  # this lane's 1 is excluded from the sum
        s = sum_of_group(s if own else share_of_s) - (0.0 if high > Real(-INF) else 1.0)
        best = first
    else:
        s = sum_of_group(share_of_s) - 1.0
    r = high
    if SPREAD:
        high = highest_of_group(top)
        share += mass * (np.float64(high) - np.float64(top)) if high > top and top > Real(-INF) else 0.0
        share, mass, top = sum_of_group(share), sum_of_group(mass), high
    if RANK:
        rank = sum_of_group(rank)
    return left, r, s, top, share, mass, best, rank


# --- results ----------------------------------------------------------------------------------------------------------


def finish(left, r, s):
    """(-log softmax of the excluded element, logsumexp minus the larger of that element and r), both in float64."""
    top = larger(left, r)
    if not (top > Real(-INF) and top < Real(INF)):
        return NAN, NAN
    gap = np.float64(r) - np.float64(left)
    less = exp(-abs(gap))
    tail = log1p((1.0 + s) * less if left >= r else s + less)  # one for both, as a warp would go both ways
    return (tail if left >= r else gap + tail), tail
