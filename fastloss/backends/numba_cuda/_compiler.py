"""The compiler in use, numba-cuda or its successor numba-cuda-mlir: what both call by the same names."""

from fastloss.backends.numba_cuda import chosen

MLIR = chosen()[0] == "numba-cuda-mlir"

if MLIR:
    from numba_cuda_mlir import cuda, types
    from numba_cuda_mlir.caching import MLIRCache as Cache
    from numba_cuda_mlir.extending import refresh_registries
    from numba_cuda_mlir.numba_cuda.cudadrv import driver
    from numba_cuda_mlir.tools import get_gpu_compute_capability

    SIMULATED = False  # it has no simulator
else:
    from numba import cuda
    from numba.cuda.core import config

    SIMULATED = bool(config.ENABLE_CUDASIM)
    if not SIMULATED:
        from numba.cuda import types
        from numba.cuda.cudadrv import driver
        from numba.cuda.dispatcher import CUDACache as Cache

__all__ = ["MLIR", "SIMULATED", "Cache", "compiled", "cuda", "driver", "refresh", "types"]


def compiled(kernel, signature):
    """The kernel's machine code for the current device."""
    if MLIR:
        _check_capability()
        refresh()
    return kernel.compile(signature)


def refresh():
    """Make known what has been defined by `intrinsic` since the last compilation."""
    if MLIR:
        refresh_registries(typing=True, target=False, include_uninitialized_cuda=False)


def _check_capability():
    """Raise if the current device is not what numba-cuda-mlir compiles for: the kind of the one that it met first."""
    first, here = get_gpu_compute_capability(tuple), cuda.current_context().device.compute_capability
    if tuple(first) != tuple(here):
        raise RuntimeError(
            "numba-cuda-mlir compiles for one kind of GPU in a process, here of compute capability {}.{}, and this one's "
            "is {}.{}: with numba-cuda both can be used".format(*first, *here)
        )
