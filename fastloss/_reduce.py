"""From the sums of blocks to a result, for every backend alike."""

import numpy as np


def total(partials):
    """Sums over blocks, in an order that depends on their number alone."""
    return partials[0] if len(partials) == 1 else np.add.reduce(partials, axis=0)


def ratio(numerator, denominator):
    """numerator / denominator as floats; 0 / 0 is NaN and no warning."""
    numerator, denominator = float(numerator), float(denominator)
    if denominator != 0.0:
        return numerator / denominator
    return float("nan") if numerator == 0.0 or numerator != numerator else numerator * float("inf")


def mean_of_sums(total, weight, rowwise):
    """The quotient of two exact sums; where nothing was counted, what the loss's family says."""
    if float(weight):
        return total.over(weight)
    # without any weight rows have no mean, even if smoothing left something to sum
    return float("nan") if rowwise else ratio(float(total), 0.0)


def calibration_error(bins, norm):
    """The distance of confidences and shares of hits over all bins that hold rows; NaN if none does."""
    used = bins.counts > 0
    if not used.any():
        return float("nan")
    counts = bins.counts[used]
    gaps = np.abs(bins.confidence[used] - bins.hits[used])  # times the counts
    if norm == "max":
        return float(np.max(gaps / counts))
    if norm == "l2":
        return float(np.sqrt(np.sum(gaps * (gaps / counts)) / np.sum(counts)))
    return float(np.sum(gaps) / np.sum(counts))


def inverse(denominator):
    """What a mean's slope is multiplied by: NaN, as the mean, where the denominator is 0."""
    denominator = float(denominator)
    return 1.0 / denominator if denominator else float("nan")
