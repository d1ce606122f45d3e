"""The compiled kernels; everything else is declared in pyproject.toml.

They are optional: where they can't be built, installing goes on without them and says what is missing, unless
FASTLOSS_REQUIRE_EXTENSION is set in the environment.  On x86-64 each kernel is compiled once per instruction set, elsewhere once; the
best that the CPU has is taken on import.
"""

import importlib.util
import logging
import os
import platform
import runpy
import sys
import time
import zlib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
SOURCES = HERE / "fastloss_c"
INCLUDED = sorted(str(path.relative_to(HERE)) for suffix in ("h", "pxi") for path in SOURCES.glob(f"*.{suffix}"))
# What `fastloss bench` compares kernels with is compiled apart from them.
YARDSTICKS = [f"fastloss_c/{name}" for name in ("limits.pxi", "floor.h", "machine.h", "pool.h", "elementary.h")]
KERNELS = [path for path in INCLUDED if path not in YARDSTICKS[:2]]

REQUIRED = bool(os.environ.get("FASTLOSS_REQUIRE_EXTENSION"))
MSVC = sys.platform == "win32" and "GCC" not in sys.version
X86 = platform.machine().lower() in ("x86_64", "amd64") and sys.maxsize > 2**32

# Nothing that changes results: no -ffast-math.  Loops vectorise without errno and traps.
FLAGS = (
    ["/O2", "/fp:precise", "/Zc:preprocessor"]
    if MSVC
    else ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wno-unused-function"]
    + ["-Werror=incompatible-pointer-types"]  # an error from gcc 14 on, whatever the flags
)
# The limit lets gcc take conditions that do not change out of large loops; it can't vectorise them otherwise, nor loops over lanes that it
# has joined with their neighbours.
GCC = ["--param=max-unswitch-insns=2000", "-fno-loop-unroll-and-jam"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mprefer-vector-width=512"]
INSTRUCTION_SETS = {"baseline": [], "avx2": AVX2, "avx512": AVX512} if X86 and not MSVC else {"baseline": []}


def translated():
    """The losses' formulas as C."""
    spec = importlib.util.spec_from_file_location("translate", SOURCES / "translate.py")
    translate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(translate)
    source = (HERE / "fastloss" / "scalars.py").read_bytes()
    text = source.decode()
    table = runpy.run_path(str(HERE / "fastloss" / "losses.py"))["COMPILED"]
    return f"#define SCALARS_DIGEST {zlib.crc32(source)}u\n" + translate.header(
        text, [(loss.value, loss.slope, loss.operands, loss.odds, loss.is_slow) for loss in table]
    )


class optional_build_ext(build_ext):
    """Builds what can be built, one instruction set beside the other."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self):
        names = ", ".join(extension.name for extension in self.extensions)
        print(f"compiling {names} ...", end=" ", flush=True)
        start = time.monotonic()
        if self.distribution.verbose < 2:  # without -v: no command lines
            logging.getLogger().setLevel(logging.WARNING)
        self.build()
        print(f"{time.monotonic() - start:.0f} s", flush=True)

    def build(self):
        generated = Path(self.build_temp) / "generated"
        generated.mkdir(parents=True, exist_ok=True)
        header, text = generated / "scalars.h", translated()
        if not header.exists() or header.read_text(encoding="utf-8") != text:
            header.write_text(text, encoding="utf-8")
        try:
            from Cython.Build import cythonize

            for extension in self.extensions:
                extension.include_dirs.append(str(generated))
                extension.depends.append(str(header))
            self.extensions[:] = cythonize(self.extensions, build_dir=str(Path(self.build_temp) / "cython"), quiet=True)
            for extension in self.extensions:
                extension._needs_stub = False
            super().run()
        except Exception as error:  # whatever a missing tool raises
            self.missing(error)

    def build_extension(self, extension):
        if not MSVC and "gcc" in " ".join(getattr(self.compiler, "compiler", [])):
            extension.extra_compile_args += GCC
        try:
            super().build_extension(extension)
        except Exception as error:
            self.missing(error, extension.name)

    def missing(self, error, name="fastloss_c"):
        if REQUIRED:
            raise error
        self.warn(
            f"{name} was not built, so the backend 'cython' will be missing or slower; it needs a C compiler, the headers of "
            f"Python, and Cython ({type(error).__name__}: {error})"
        )


def extensions():
    try:
        import numpy
    except ImportError:
        if REQUIRED:
            raise
        print("fastloss_c is not built: NumPy's headers are missing", file=sys.stderr)
        return []
    common = {
        "include_dirs": [str(SOURCES), numpy.get_include()],
        "define_macros": [
            ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"),
            ("NPY_TARGET_VERSION", "NPY_1_25_API_VERSION"),
        ],
        "extra_link_args": [] if MSVC else ["-pthread"],
        "optional": not REQUIRED,
    }
    found = [Extension("fastloss_c._cpu", ["fastloss_c/_cpu.pyx"], optional=not REQUIRED)]
    for name, flags in INSTRUCTION_SETS.items():
        for module, depends in ((f"_{name}", KERNELS), (f"_limits_{name}", YARDSTICKS)):
            found.append(
                Extension(
                    f"fastloss_c.{module}",
                    [f"fastloss_c/{module}.pyx"],
                    extra_compile_args=[*FLAGS, *flags],
                    depends=depends,
                    **common,
                )
            )
    return found


setup(ext_modules=extensions(), cmdclass={"build_ext": optional_build_ext})
