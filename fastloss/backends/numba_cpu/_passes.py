"""How Numba compiles kernels and the functions that they call, which takes half the time that it would take by default.

By default each function is optimised, compiled and loaded by itself, and then once more as part of every function that calls it.
Here a function that kernels call is translated to LLVM's representation, and no more is done until a kernel is complete.
"""

from numba.core import compiler, typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_machinery import PassManager, register_pass


class _Library(JITCodeLibrary):
    """Code that is optimised once, when all of a kernel's is there.

    Numba would first run passes on every function, even on declarations.
    """

    def _optimize_functions(self, module):
        module.data_layout = self._codegen._data_layout


class _PartLibrary(_Library):
    """The code of a function that kernels call: linked into theirs, and optimised and compiled there alone."""

    def finalize(self):
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _KernelLowering(typed_passes.NativeLowering):
    _name = "kernel_lowering"

    def run_pass(self, state):
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().run_pass(state)


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(typed_passes.NativeLowering):
    _name = "part_lowering"

    def run_pass(self, state):
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        # Callers find the code by its entry point, which must be a built-in function of its own and is never called.
        state.cr = state.cr._replace(cfunc=object().__sizeof__)
        state.targetctx.insert_user_function(state.cr.cfunc, state.cr.fndesc, [state.library])
        return True


class _Compiler(compiler.CompilerBase):
    """Numba's pipeline without what kernels have no use for: closures, contexts, array expressions, loops that are unrolled by type."""

    lowering = _KernelLowering

    def define_pipelines(self):
        manager = PassManager("kernel")
        for step in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            untyped_passes.DeadBranchPrune,
            untyped_passes.GenericRewrites,
            untyped_passes.ReconstructSSA,
            untyped_passes.DeadBranchPrune,
            typed_passes.NopythonTypeInference,
            typed_passes.PreLowerStripPhis,
            compiler.IRLegalization,
            typed_passes.AnnotateTypes,
            self.lowering,
            typed_passes.NoPythonBackend,
        ):
            manager.add_pass(step, step.__name__)
        manager.finalize()
        return [manager]


class _PartCompiler(_Compiler):
    lowering = _PartLowering


# options of Numba's decorators
PART = {"pipeline_class": _PartCompiler, "no_cfunc_wrapper": True}
KERNEL = {"pipeline_class": _Compiler, "no_cfunc_wrapper": True}
