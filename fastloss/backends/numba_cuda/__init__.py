"""The CUDA backend: the package numba-cuda compiles the kernels for the device that the arrays are on.

It evaluates calls on arrays of a device's memory, not blocks on threads of the host, so it has no `kernel` of the backends' protocol:
`fastloss._device` asks `pointwise`, `softmax` and `_launch` for what it needs.
"""

import functools

LEAST_CAPABILITY = (7, 0)  # the first whose threads of a warp run independently, and that the compiler still knows


@functools.cache
def available():
    """None if there is a GPU to compute on, else why not and what to do about it."""
    try:
        import numba_cuda  # noqa: F401
    except ImportError as error:
        return f"numba-cuda is not installed ({error}): pip install 'fastloss[cuda]'"
    try:
        from numba import cuda
        from numba.cuda.core import config
    except Exception as error:  # other packages' versions may not go together
        return f"numba-cuda can't be imported ({type(error).__name__}: {error}): pip install --upgrade 'fastloss[cuda]'"
    if config.ENABLE_CUDASIM:
        return None
    try:
        if not len(cuda.gpus):
            return "there is no CUDA device: nvidia-smi should list one"
        capability = cuda.gpus[0].compute_capability
    except Exception as error:
        reason = str(error).strip().splitlines()[-1]
        return f"there is no CUDA driver ({reason}): install NVIDIA's, of version 580 or later"
    if tuple(capability) < LEAST_CAPABILITY:
        return "the GPU's compute capability is {}.{}, and at least {}.{} is needed".format(
            *capability, *LEAST_CAPABILITY
        )
    return None
