/* Numbers in vectors, for every kernel. setup.py compiles each file for every REAL (float, double) and VARIANT of processor
 * (baseline, avx2, avx512), whose vectors have VECTOR bytes. */
#ifndef VECTORS_H
#define VECTORS_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef REAL
#define REAL float
#define VARIANT baseline
#define VECTOR 16
#endif
#define JOIN(name, real, variant) name##_##real##_##variant
#define EXPAND(name, real, variant) JOIN(name, real, variant)
#define NAME(name) EXPAND(name, REAL, VARIANT)
#define KERNEL(name) int NAME(name)
#define LANES (VECTOR / (int)sizeof(REAL))
#define INLINE static inline __attribute__((always_inline))

typedef REAL vec __attribute__((vector_size(VECTOR)));
typedef REAL loose __attribute__((vector_size(VECTOR), aligned(sizeof(REAL)), may_alias));

INLINE vec load(const REAL *p, int count)
{
    if (count == LANES) return *(const loose *)p;
    vec v = {0};
    memcpy(&v, p, count * sizeof(REAL));
    return v;
}

INLINE void store(REAL *p, vec v, int count)
{
    if (count == LANES) *(loose *)p = v;
    else memcpy(p, &v, count * sizeof(REAL));
}

INLINE REAL total(vec v)
{
    REAL part[LANES];
    memcpy(part, &v, sizeof part);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

/* body(n) for the channels c … c + n - 1, whole vectors and a rest */
#define CHUNKS(body) { int c = 0; for (; c + LANES <= C; c += LANES) body(LANES) if (c < C) body(C - c) }
#endif
