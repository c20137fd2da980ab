/* What the library of kernels says of itself: the source it was built from, and which variant suits this processor.
 * setup.py sets SOURCE, the SHA-256 of the C files of this folder, and VARIANTS where there are more than the baseline. */

const char source[] = "race_calc kernels " SOURCE; /* build.py looks for it in the file before it loads it */

const char *variant(void)
{
#ifdef VARIANTS
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return "baseline";
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq"))
        return "avx512";
    return "avx2";
#else
    return "baseline";
#endif
}
