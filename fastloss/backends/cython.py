"""The compiled backend: the kernels of `fastloss_c`, which need neither Numba nor time to compile."""

import functools
import zlib  # not hashlib, whose import takes longer than the first call should

from fastloss import scalars

ENTROPY_OF = 64  # classes up to which "score" gives entropies
CALIBRATES = True  # sorts rows of probabilities into bins
MEASURES_DISTANCES = True  # between probabilities and what came true
READS_WEIGHTS = True  # of classes, of any floating type
WIDENS_LOGITS = True  # of up to 32 bits, in kernels of rows that compute in float64

CAPPED_CLASSES = 192  # of rows across lanes that soft caps are computed for, as in capped.h


@functools.cache
def available():
    """None if the extension was built, otherwise why not and what to do about it."""
    try:
        import fastloss_c
    except ImportError as error:
        return f"fastloss_c is not installed ({error}): install fastloss from source where there is a C compiler"
    if fastloss_c.reason:
        return (
            f"fastloss_c was not compiled when fastloss was installed, {fastloss_c.reason}: reinstall with a C compiler"
        )
    with open(scalars.__file__, "rb") as source:
        current = zlib.crc32(source.read())
    if fastloss_c.scalars != current:
        return "fastloss_c was built from another scalars.py: build it again (python setup.py build_ext --inplace)"
    return None


def element_kernel(formula, op, real, p, shape, layouts, block):
    """The kernel `op` of a pointwise loss, see `backends`."""
    import fastloss_c

    return fastloss_c.ElementKernel(formula.name, real.itemsize == 8, op, p, shape, layouts, block)


def row_kernel(op, across, real, lengths, x, target, w, outs, block, *constants):
    """The kernel `op` of the softmax family, see `backends`."""
    import fastloss_c

    return fastloss_c.RowKernel(real.itemsize == 8, op, across, lengths, x, target, w, outs, block, *constants)


def rowwise_from(op, real, written):
    """The number of classes at which the kernels' times cross, see `backends`."""
    if op == "normalise" and real.itemsize == 8:
        return 64 if written else 128
    wide = instruction_set() == "avx512"
    if op == "normalise":
        return 160 if not written else 112 if wide else 128
    if op == "dense" and real.itemsize == 4:
        return 64 if wide else 80
    return 128 if real.itemsize == 8 or op == "detail" else 192


def takes_temperature(op, real, written, temperature):
    """Whether `row_kernel` takes one after its other arguments: of float32, where what is made of it stays among the normal numbers."""
    if op in ("detail", "gather"):
        return False
    if op == "normalise" and not written:
        return False  # at some temperatures logsumexp is near 0: little of a sum in float32 would be left
    return real.itemsize == 4 and 2.0**-40 <= temperature <= 2.0**40


def takes_softcap(op, across, real, n_classes, temperature, softcap):
    """Whether `row_kernel` takes one after the temperature: of float32, where capped logits lie so near 0 that subtracting them from each
    other loses nothing that a comparison of two models would show."""
    if op in ("detail", "gather") or real.itemsize != 4 or across and n_classes > CAPPED_CLASSES:
        return False
    inside = all(2.0**-100 <= value <= 2.0**100 for value in (temperature, softcap))
    return inside and softcap / temperature <= 80.0


@functools.cache
def tile_kernel(op, real):
    """The kernel `op` of tiles of classes, see `backends`."""
    import fastloss_c

    return getattr(fastloss_c.TileKernels(real.itemsize == 8), op)


def finish_means(*arguments):
    """Write results from sums along axes, see `backends`."""
    import fastloss_c

    return fastloss_c.finish(*arguments)


@functools.cache
def share():
    """A function share(n_threads, ns of work, whether signal handlers may run meanwhile) that lets the calling thread's
    next kernel use several threads; None if kernels have no threads of their own.
    """
    import fastloss_c

    return fastloss_c.share


def instruction_set():
    """The instruction set that the kernels in use were compiled for, by the name of its vector instructions."""
    import fastloss_c

    return fastloss_c.vectors
