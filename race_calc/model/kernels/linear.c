/* Rows of channels times a matrix, the rows of a few atoms at once. */
#include "step.h"

#define ROWS_AT_ONCE 4
#if VECTOR == 64
#define WIDE 4 /* vectors of columns at once: as many sums as there are registers */
#else
#define WIDE 2
#endif

/* `n` vectors of columns of `rows` rows, the last vector with `rest` numbers; n and rows are constants after inlining */
INLINE void block(int rows, int n, const REAL *const *in, REAL *const *out, int64_t column, int rest, const REAL *w, int64_t ldw,
                  int64_t n_in, int add)
{
    vec sum[ROWS_AT_ONCE][WIDE] = {{{0}}};
    for (int64_t c = 0; c < n_in; c++) {
        const REAL *row = w + c * ldw + column;
        vec b[WIDE];
        for (int v = 0; v < n; v++) b[v] = load(row + v * LANES, v + 1 < n ? LANES : rest);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < n; v++) sum[r][v] += in[r][c] * b[v];
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < n; v++) {
            REAL *at = out[r] + column + v * LANES;
            const int count = v + 1 < n ? LANES : rest;
            store(at, add ? load(at, count) + sum[r][v] : sum[r][v], count);
        }
}

INLINE void columns(int rows, const REAL *const *in, REAL *const *out, const REAL *w, int64_t ldw, int64_t n_in, int64_t n_out, int add)
{
    int64_t column = 0;
    for (; column + WIDE * LANES <= n_out; column += WIDE * LANES) block(rows, WIDE, in, out, column, LANES, w, ldw, n_in, add);
    if (WIDE == 4 && column + 2 * LANES <= n_out) { block(rows, 2, in, out, column, LANES, w, ldw, n_in, add); column += 2 * LANES; }
    if (column + LANES <= n_out) { block(rows, 1, in, out, column, LANES, w, ldw, n_in, add); column += LANES; }
    if (column < n_out) block(rows, 1, in, out, column, (int)(n_out - column), w, ldw, n_in, add);
}

void NAME(times)(Rows rows, int64_t k, const int64_t *list, int64_t from, int64_t to, const REAL *w, int64_t ldw, int64_t n_in,
                 int64_t n_out, int add)
{
    const REAL *in[ROWS_AT_ONCE];
    REAL *out[ROWS_AT_ONCE];
    int full = 0;
    for (int64_t at = from; at < to; at++) {
        const int64_t atom = list ? list[at] : at;
        for (int64_t a = 0; a < k; a++) {
            in[full] = rows.in + ((atom - rows.in_from) * k + a) * rows.in_width;
            out[full] = rows.out + ((atom - rows.out_from) * k + a) * rows.out_width;
            if (++full == ROWS_AT_ONCE) { columns(ROWS_AT_ONCE, in, out, w, ldw, n_in, n_out, add); full = 0; }
        }
    }
    switch (full) {
    case 1: columns(1, in, out, w, ldw, n_in, n_out, add); break;
    case 2: columns(2, in, out, w, ldw, n_in, n_out, add); break;
    case 3: columns(3, in, out, w, ldw, n_in, n_out, add); break;
    }
}

/* through a matrix of trunk t, and back */
void NAME(forwards)(const Matrix *m, int64_t t, Rows rows, int64_t k, int64_t from, int64_t to, int add)
{
    NAME(times)(rows, k, NULL, from, to, WEIGHT(m, t), m->columns, m->rows, m->columns, add);
}

void NAME(backwards)(const Matrix *m, int64_t t, Rows rows, int64_t k, int64_t from, int64_t to, int add)
{
    NAME(times)(rows, k, NULL, from, to, TRANSPOSED(m, t), m->rows, m->columns, m->rows, add);
}
