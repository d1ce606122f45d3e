"""The CUDA backend: kernels that numba-cuda compiles for the device that the arrays are on.

It computes whole calls on arrays in device memory, not blocks for host threads to share, and so does not follow the
protocol of backends: `fastloss.places.cuda` uses `pointwise`, `softmax` and `_launch` directly.
"""

import functools

from fastloss._optional import failure_of_import

# The first with independent threads in a warp, and the oldest that the compiler still supports.
LEAST_CAPABILITY = (7, 0)


@functools.cache
def available():
    """None if there is a GPU to compute on, otherwise why not and what to do about it."""
    error = failure_of_import("numba_cuda")
    if isinstance(error, ImportError):
        return f"numba-cuda is not installed ({error}): pip install 'fastloss[cuda]'"
    error = error or failure_of_import("numba.cuda.core.config")
    if error is not None:  # versions of other packages may be incompatible
        return f"numba-cuda can't be imported ({type(error).__name__}: {error}): pip install --upgrade 'fastloss[cuda]'"
    from numba import cuda
    from numba.cuda.core import config

    if config.ENABLE_CUDASIM:
        return None
    try:
        if not len(cuda.gpus):
            return "there is no CUDA device: nvidia-smi should list one"
        capability = cuda.gpus[0].compute_capability
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(" :")
        return f"no CUDA driver answers ({reason}): install NVIDIA's, for CUDA 13 of version 580 or later"
    if tuple(capability) < LEAST_CAPABILITY:
        return "the GPU's compute capability is {}.{}, and at least {}.{} is needed".format(
            *capability, *LEAST_CAPABILITY
        )
    return None
