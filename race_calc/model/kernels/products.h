/* What the kernels of products.c are told: the terms of a product, and where the arrays are. */
#include "vectors.h"

#define MOST 32 /* components of a factor: l <= 3, both parities */

typedef struct { int32_t tensor, at, stride; } Place; /* of channel 0 of a component: (m N + i) * stride + at */
typedef struct { int32_t k1, k2; REAL value; } Term;

typedef struct {
    int64_t atoms, channels, same;
    int64_t n_x, n_y, n_rows;
    const Place *x_at, *y_at, *g_at;
    const Term *terms;
    const int32_t *first_term;            /* (n_rows + 1,) of each row */
    const REAL *const *x, *const *y;      /* per irrep (M, N, 2 l + 1, C) */
    REAL *const *g;                       /* per target (M, N, 2 l + 1, couplings * C) */
    REAL *const *d_x, *const *d_y, *const *d_g;
    const REAL *const *h_x, *const *h_y;
} Product;

KERNEL(multiply)(const Product *t, int64_t first, int64_t last, int64_t from, int64_t to);
KERNEL(multiply_backward)(const Product *t, int64_t first, int64_t last, int64_t from, int64_t to);
