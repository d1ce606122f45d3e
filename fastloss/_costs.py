"""How long elements take: nanoseconds on one CPU with the data in its cache, by the compiled kernels with AVX-512.

They tell how many threads pay, and how many blocks are computed between two looks at what signals came in; a factor of 2 does not
matter.  On other CPUs and from memory they are too low rather than too high, so that no thread is called for nothing.
"""

# If nothing more is known than whether a loss is little more than reading its operands.
LIGHT = 0.1
OTHER = 0.3

# Losses of `losses.POINTWISE`, by name.
ELEMENTS = {
    "mse": 0.1,
    "l1": 0.1,
    "huber": 0.1,
    "smooth_l1": 0.1,
    "quantile": 0.1,
    "log_cosh": 1.0,
    "msle": 0.5,
    "bce": 0.6,
    "bce_logits": 0.5,
    "bce_logits_positive": 0.8,
    "poisson_log": 0.3,
    "poisson_log_full": 0.6,
    "poisson": 0.4,
    "poisson_full": 0.6,
    "gaussian": 0.5,
    "kl_div": 0.4,
    "kl_div_log": 0.4,
    "categorical": 0.3,
}

# Rows of at least so many classes: the sums of their exponentials, and those with something written per class, be it a gradient.
ROWS = ((512, 0.2, 0.6), (128, 0.3, 1.0), (32, 0.4, 1.5), (8, 0.6, 2.5), (0, 1.5, 6.0))

SLOPES = 1.6  # times that with slopes
WIDE = 2.0  # and in float64


def of_elements(name, slopes=False, wide=False):
    """An element of a pointwise loss, by its name; of any other loss if there is none of that name."""
    return ELEMENTS.get(name, OTHER) * (SLOPES if slopes else 1.0) * (WIDE if wide else 1.0)


def of_rows(n_classes, written=False, wide=False):
    """An element of rows of that many classes; `written` if there are outputs as large, or a second pass over the row."""
    ns = next(costs[written] for least, *costs in ROWS if n_classes >= least)
    return ns * (WIDE if wide else 1.0)
