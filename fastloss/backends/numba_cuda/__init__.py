"""The CUDA backend: kernels that numba-cuda compiles for the device that the arrays are on.

It computes whole calls on arrays in device memory, not blocks for host threads to share, and so does not follow the
protocol of backends: `fastloss.places.cuda` uses `pointwise`, `softmax` and `_launch` directly.
"""

import functools

from fastloss._optional import failure_of_import

# The first with independent threads in a warp, and the oldest that the compiler still supports.
LEAST_CAPABILITY = (7, 0)


# Compilers, the first that works being chosen: their packages, what is imported of each, and the extra that brings it.
COMPILERS = {
    "numba-cuda": ("numba_cuda", "numba.cuda.core.config", "cuda"),
    "numba-cuda-mlir": ("numba_cuda_mlir", "numba_cuda_mlir.cuda", "cuda-mlir"),
}


@functools.cache
def chosen():
    """(the compiler in use, None), or (None, why there is none and what to do about it)."""
    found, missing = None, None
    for name, (package, used, extra) in COMPILERS.items():
        error = failure_of_import(package)
        if isinstance(error, ImportError):
            missing = missing or error
            continue
        error = error or failure_of_import(used)
        if error is None:
            return name, None
        found = found or (name, extra, error)
    if found is None:
        return None, f"numba-cuda is not installed ({missing}): pip install 'fastloss[cuda]'"
    name, extra, error = found  # versions of other packages may be incompatible
    return (
        None,
        f"{name} can't be imported ({type(error).__name__}: {error}): pip install --upgrade 'fastloss[{extra}]'",
    )


@functools.cache
def available():
    """None if there is a GPU to compute on, otherwise why not and what to do about it."""
    name, reason = chosen()
    if name is None:
        return reason
    from fastloss.backends.numba_cuda._compiler import SIMULATED, cuda

    if SIMULATED:
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
