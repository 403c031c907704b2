/* Which vector instructions a kernel may use. A kernel has a scalar variant and, where it pays, wider ones. */
#ifndef KF_ISA_H
#define KF_ISA_H

enum { KF_SCALAR, KF_AVX2, KF_AVX512, KF_ISAS };

#if defined(__x86_64__) && defined(__GNUC__)
#define KF_X86 1
/* Zen 4 and Ice Lake have all of these; the older AVX-512 machines run the AVX2 variants. */
#define KF_TARGET_AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt,lzcnt")))
#define KF_TARGET_AVX512                                                                          \
    __attribute__((target("avx2,bmi,bmi2,popcnt,lzcnt,avx512f,avx512bw,avx512dq,avx512vl,"        \
                          "avx512vbmi,avx512vbmi2,avx512vpopcntdq")))
#else
#define KF_X86 0
#endif

static inline int kf_best_isa(void)
{
#if KF_X86
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2") ||
        !__builtin_cpu_supports("popcnt"))
        return KF_SCALAR;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
        __builtin_cpu_supports("avx512vpopcntdq"))
        return KF_AVX512;
    return KF_AVX2;
#else
    return KF_SCALAR;
#endif
}

#endif
