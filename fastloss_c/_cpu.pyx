# cython: language_level=3, freethreading_compatible=True
"""What the CPU has."""

cdef extern from *:
    """
    #if (defined(__x86_64__) || defined(__amd64__)) && (defined(__GNUC__) || defined(__clang__))
    /* The best of the builds that this CPU and its operating system can run: 0 baseline, 1 avx2, 2 avx512. */
    static int fastloss_best(void)
    {
        __builtin_cpu_init();
        if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
            return 0;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512bw"))
            return 2;
        return 1;
    }
    #else
    static int fastloss_best(void)
    {
        return 0;
    }
    #endif
    /* Every ARM64 CPU has NEON, so that is what the baseline is compiled for there. */
    #if defined(__aarch64__) || defined(_M_ARM64)
    enum { FASTLOSS_NEON = 1 };
    #else
    enum { FASTLOSS_NEON = 0 };
    #endif
    """
    int fastloss_best() noexcept nogil
    const int FASTLOSS_NEON


# What the baseline's vector instructions are called, where they have a name of their own.
baseline = "neon" if FASTLOSS_NEON else "baseline"


def best():
    """The number of instruction sets beyond the baseline that can be used here, in the order of INSTRUCTION_SETS."""
    return fastloss_best()
