/* One path of a layer on one edge: D1 = 2 l1 + 1 and D3 = 2 l3 + 1 are constants after inlining; D3 < 0: K = 1. Included by messages.c. */

/* one edge of the block in work: its coupling matrices, radial weights and their slopes */
typedef struct { const REAL *K, *R, *slope; int64_t e, neighbour, pair; } Edge;

INLINE void path_forward(int D1, int D3, int C, const Edge *edge, const Edge *end, const Path *p,
                         const REAL *u0, int64_t width, REAL *g, int ldg)
{
#define BODY(n) { \
        vec sum[7] = {{0}}; \
        for (const Edge *e = edge; e < end; e++) { \
            const REAL *K = e->K + p->k, *u = u0 + e->neighbour * width; \
            const vec r = load(e->R + p->r + c, n); \
            for (int a = 0; a < D1; a++) { \
                const vec t = r * load(u + a * C + c, n); \
                if (D3 < 0) sum[a] += t; \
                for (int b = 0; b < D3; b++) sum[b] += K[a * D3 + b] * t; \
            } \
        } \
        for (int b = 0; b < (D3 < 0 ? D1 : D3); b++) store(g + b * ldg + c, sum[b], n); }
    CHUNKS(BODY)
#undef BODY
}

INLINE void path_backward(int D1, int D3, int C, const REAL *K, const REAL *R, const REAL *u, const REAL *g, int ldg,
                          vec *dK, int again, REAL *dR, REAL *du)
{
#define BODY(n) { \
        const vec r = load(R + c, n); \
        vec y[7], sum = {0}; \
        for (int b = 0; b < (D3 < 0 ? D1 : D3); b++) y[b] = load(g + b * ldg + c, n); \
        for (int a = 0; a < D1; a++) { \
            vec v = D3 < 0 ? y[a] : K[a * D3] * y[0]; \
            for (int b = 1; b < D3; b++) v += K[a * D3 + b] * y[b]; \
            store(du + a * C + c, load(du + a * C + c, n) + r * v, n); \
            sum += load(u + a * C + c, n) * v; \
        } \
        store(dR + c, sum, n); }
    CHUNKS(BODY)
#undef BODY
    if (!dK || D3 < 0) return;
    for (int a = 0; a < D1; a++) {
        vec sum[7] = {{0}};
#define BODY(n) { \
            const vec t = load(R + c, n) * load(u + a * C + c, n); \
            for (int b = 0; b < D3; b++) sum[b] += t * load(g + b * ldg + c, n); }
        CHUNKS(BODY)
#undef BODY
        for (int b = 0; b < D3; b++) dK[a * D3 + b] = again ? dK[a * D3 + b] + sum[b] : sum[b];
    }
}

INLINE void path_twice(int D1, int D3, int C, const REAL *K, const REAL *hK, const REAL *R, const REAL *hR,
                       const REAL *u, const REAL *hu, const REAL *g, int ldg, REAL *dR, REAL *du, REAL *dg)
{
#define BODY(n) { \
        const vec r = load(R + c, n), q = load(hR + c, n); \
        vec y[7], sum[7], rest = {0}; \
        for (int b = 0; b < (D3 < 0 ? D1 : D3); b++) { y[b] = load(g + b * ldg + c, n); sum[b] = load(dg + b * ldg + c, n); } \
        for (int a = 0; a < D1; a++) { \
            const vec x = load(u + a * C + c, n), z = load(hu + a * C + c, n), s = q * x + r * z, t = r * x; \
            vec v = {0}, w = {0}; \
            if (D3 < 0) { v = y[a]; sum[a] += s; } \
            for (int b = 0; b < D3; b++) { \
                v += K[a * D3 + b] * y[b]; \
                w += hK[a * D3 + b] * y[b]; \
                sum[b] += K[a * D3 + b] * s + hK[a * D3 + b] * t; \
            } \
            store(du + a * C + c, load(du + a * C + c, n) + q * v + r * w, n); \
            rest += z * v + x * w; \
        } \
        store(dR + c, rest, n); \
        for (int b = 0; b < (D3 < 0 ? D1 : D3); b++) store(dg + b * ldg + c, sum[b], n); }
    CHUNKS(BODY)
#undef BODY
}

/* call f(D1, D3, ...) with constants for l <= 3 */
#define WITH3(f, D1, path, ...) \
    if ((path)->k < 0) f(D1, -1, __VA_ARGS__); \
    else switch ((path)->l3) { \
        case 0: f(D1, 1, __VA_ARGS__); break; case 1: f(D1, 3, __VA_ARGS__); break; \
        case 2: f(D1, 5, __VA_ARGS__); break; default: f(D1, 7, __VA_ARGS__); }
#define DISPATCH(f, path, ...) \
    switch ((path)->l1) { \
        case 0: WITH3(f, 1, path, __VA_ARGS__) break; case 1: WITH3(f, 3, path, __VA_ARGS__) break; \
        case 2: WITH3(f, 5, path, __VA_ARGS__) break; default: WITH3(f, 7, path, __VA_ARGS__) }
