"""Backends: what each offers, and loading one by name.

A backend is a module with

``available() -> str | None``
    None if it can be used here, otherwise why not and what to install.
``element_kernel(formula, op, real, p, shape, layouts, block)``
    A kernel of a pointwise loss, for operands of this shape and these strides, that computes in `real`.
``row_kernel(op, across, real, lengths, x, target, w, outs, block, ignore_index, keep, spread, take_log, m)``
    A kernel of the softmax family, likewise.
``rowwise_from(op, real, written)``
    The number of contiguous classes from which on row kernels are faster than column kernels (see below); `written` says whether
    "normalise" has more to write than logsumexp.
``tile_kernel(op, real)``
    A kernel that reduces rows, one tile of classes at a time: `numba_cpu.tiles` describes its arguments.

``finish_means(partials, n, step, weights_from, divisor, by_weight, root, out)``
    Writes n sums along axes to the contiguous array `out`, divided by `divisor` or by their sums of weights, and their
    square roots if `root`; returns whether any sum is NaN.  Sum k is the element k * step of `partials`, and its sum of
    weights is `weights_from` elements after it.

Kernels of elements
-------------------
op : "flat_total", "flat_each", "flat_slope" (one long axis), "rows_total", "rows_each", "rows_slope" (three axes),
    "lanes_total" (sums over the middle one of three axes).
p : the formula's parameters.
shape : (outer, middle, size) of the operands; (1, 1, size) for one long axis.
layouts : of prediction, target, third operand and weight: (dtype, three strides in bytes), or None for those that are
    absent.
block : elements per block of one long axis, rows per block, or positions of the middle axis per block.

``kernel.run(operands, scale, out, first, last, partials)`` computes blocks [first, last): sums of weight * loss and of
weights to rows of `partials`, (n_blocks, 2) float64 (for lanes (blocks along the middle axis, 2, outer, size), and
without weights it may leave their sums out); losses, or `scale` times slopes, to `out`, which is contiguous.  It may
return False to say that none of these is infinite or NaN.  ``kernel.sums(operands, scale, out, n_blocks)`` computes all
n_blocks blocks and returns their two sums, added in the order of the blocks.

Kernels of rows
---------------
op : "index" or "dense" (cross-entropy of class indices or probabilities), "known" (the gradient of another loss with
    class indices, from two numbers per row), "gather" (the loss from the elements that the labels select), "normalise",
    "score", "compare", "detail" (see `_details`); of backends with ``MEASURES_DISTANCES`` also "distance" (squared
    distances between probabilities and what came true) and "event" (the same of one class, an event, where labels say
    whether it came true); of those with ``CALIBRATES`` "calibration" and "event calibration".
across : whether arrays of the logits' shape are (outer, n_classes, inner) with any strides, and each vector lane
    computes one row; otherwise they are (outer, middle, n_classes) with the classes contiguous.
lengths : these three lengths.
real : the type computed in.  Backends with ``WIDENS_LOGITS`` compute in float64 with logits of other types, too; others
    then take logits of float64.
x, target, w : layouts as above; the strides of arrays of one value per row are (0, outer, inner or middle).  Class weights
    are contiguous float64, or of any floating dtype and stride for "index" and "gather" of backends with
    ``READS_WEIGHTS``, if there is no smoothed part.  For
    "compare" w is not class weights but the reference's logits, with the layout of x.  For "known" it is (2, rows...)
    float64: the factor of each row's softmax and the slope at its label, before they are multiplied by the scale.
outs : layouts of the outputs.  "index", "dense", "gather": losses, which may be float64 whatever `real` is, and
    gradient.  "known": None, gradient.  "normalise": logsumexp, log-softmax, softmax.  "score": nll, lse, argmax,
    correct, rank, and of backends with ``ENTROPY_OF``, and no more classes than that says, entropy.  "compare": kl,
    same arg max, nll, the reference's nll, change of the target's probability.  "detail": contiguous arrays with one
    more axis, of states and of classes and values of the first m elements; and rank.
block : rows, or tiles of LANES rows, per block; rows for "gather" and what else reads probabilities.
keep, spread : 1 - label_smoothing, and label_smoothing / n_classes or None for 0.
take_log : whether "gather" reads probabilities; it then checks all of them, unless it writes a gradient.
temperature : what logits are divided by; passed only to backends whose ``takes_temperature(op, real, written, temperature)`` is
    true.
softcap : of logits before that; passed only to backends whose ``takes_softcap(op, across, real, n_classes, temperature, softcap)``
    is true.
m : how many bins "calibration" has; w are then their upper edges, and rows of `partials` have 3 m more numbers: confidences, hits
    and rows of each bin.  How many of a row's first elements "detail" finds; at least HEAVIEST, or all if a row has fewer.

``kernel.run(x, target, w, outs, scale, first, last, partials)`` computes blocks [first, last): (loss, weight, count,
first bad row or inf) to rows of `partials`, (n_blocks, 4) float64; -1 instead of the bad row if probabilities may be
outside [0, 1], as some are or are -0 or NaN.  ``kernel.sums(x, target, w, outs, scale, n_blocks)``, which "calibration"
does not have, computes all n_blocks blocks and returns these four: sums in the order of the blocks, and the least of the
last.  ``kernel.weigh(target, w)`` returns (weight, count, first bad row or inf) of all labels.

A backend may have ``caps_logits(softcap, temperature)``, which says whether its ``cap_logits(x, softcap, temperature, out)`` is
for these: it writes softcap tanh(x / softcap) / temperature of logits (n, m) of up to 32 bits to `out`, float64, and
``cap_slopes(x, softcap, temperature, slopes, out)`` the derivatives with respect to x from those with respect to that.  And
``tempers_logits(temperature)`` with ``temper_logits(x, origins, across, temperature, out)``: (x - origin) / temperature, with one
origin per row, or per column if `across`; ``largest_across(x)`` are such origins of columns, 0 where the largest is not finite.

Backends know nothing about each other, about threads, or about means, which are left to their callers.
"""

import functools
import importlib

# Rows per tile: those that a column kernel computes side by side.  Its blocks are counted in tiles.
LANES = 64

# How many of a row's largest elements the kernel "detail" sums in float64.
HEAVIEST = 4

_MODULES = {
    "cython": "fastloss.backends.cython",
    "numba": "fastloss.backends.numba_cpu",
    "numpy": "fastloss.backends.numpy_cpu",
    "cuda": "fastloss.backends.numba_cuda",
}


@functools.cache
def load(name):
    """The backend's module.  Raises whatever its import raises."""
    return importlib.import_module(_MODULES[name])
