/* Products of two factors, channel by channel, their gradients, and the gradients of those.
 *
 * Everything here belongs to one form, linear in each of its three arguments:
 *
 *   T = sum over members m, atoms i, terms t and channels c of  value_t x[m, i, k1_t, c] y[m, i, k2_t, c] g[m, i, row_t, c]
 *
 * A term is one Clebsch-Gordan coefficient that is not zero. k1 and k2 count the components of all irreps of a factor, row the
 * components of all couplings. `multiply` is dT/dg, `multiply_backward` dT/d(x, y), `multiply_twice` the gradient of
 * <hx, dT/dx> + <hy, dT/dy> to (x, y, g). Where both factors are one tensor (`same`), y, dy and hy are not read, and dx is the
 * sum of both gradients.
 */
#include "products.h"

INLINE void load_all(const REAL *const *list, const Place *at, int64_t count, int64_t atom, int c, int n, vec *out)
{
    for (int64_t k = 0; k < count; k++) out[k] = load(list[at[k].tensor] + atom * at[k].stride + at[k].at + c, n);
}

INLINE void store_all(REAL *const *list, const Place *at, int64_t count, int64_t atom, int c, int n, const vec *values)
{
    for (int64_t k = 0; k < count; k++) store(list[at[k].tensor] + atom * at[k].stride + at[k].at + c, values[k], n);
}

INLINE REAL *row_of(REAL *const *list, const Place *at, int64_t atom) { return list[at->tensor] + atom * at->stride + at->at; }

#define FACTOR(name, second) vec name[MOST], second##_own[MOST], *second = t->same ? name : second##_own

INLINE void multiply_channels(const Product *t, int64_t atom, int c, int n)
{
    FACTOR(x, y);
    load_all(t->x, t->x_at, t->n_x, atom, c, n, x);
    if (!t->same) load_all(t->y, t->y_at, t->n_y, atom, c, n, y);
    for (int64_t row = 0; row < t->n_rows; row++) {
        vec sum = {0};
        for (const Term *e = t->terms + t->first_term[row], *end = t->terms + t->first_term[row + 1]; e < end; e++)
            sum += e->value * x[e->k1] * y[e->k2];
        store(row_of(t->g, t->g_at + row, atom) + c, sum, n);
    }
}

INLINE void backward_channels(const Product *t, int64_t atom, int c, int n)
{
    FACTOR(x, y);
    FACTOR(dx, dy);
    load_all(t->x, t->x_at, t->n_x, atom, c, n, x);
    if (!t->same) load_all(t->y, t->y_at, t->n_y, atom, c, n, y);
    memset(dx, 0, t->n_x * sizeof(vec));
    if (!t->same) memset(dy, 0, t->n_y * sizeof(vec));
    for (int64_t row = 0; row < t->n_rows; row++) {
        const vec g = load(row_of(t->g, t->g_at + row, atom) + c, n);
        for (const Term *e = t->terms + t->first_term[row], *end = t->terms + t->first_term[row + 1]; e < end; e++) {
            const vec v = e->value * g, a = v * y[e->k2], b = v * x[e->k1];
            dx[e->k1] += a;
            dy[e->k2] += b;
        }
    }
    store_all(t->d_x, t->x_at, t->n_x, atom, c, n, dx);
    if (!t->same) store_all(t->d_y, t->y_at, t->n_y, atom, c, n, dy);
}

INLINE void twice_channels(const Product *t, int64_t atom, int c, int n)
{
    FACTOR(x, y);
    FACTOR(hx, hy);
    FACTOR(dx, dy);
    load_all(t->x, t->x_at, t->n_x, atom, c, n, x);
    load_all(t->h_x, t->x_at, t->n_x, atom, c, n, hx);
    memset(dx, 0, t->n_x * sizeof(vec));
    if (!t->same) {
        load_all(t->y, t->y_at, t->n_y, atom, c, n, y);
        load_all(t->h_y, t->y_at, t->n_y, atom, c, n, hy);
        memset(dy, 0, t->n_y * sizeof(vec));
    }
    for (int64_t row = 0; row < t->n_rows; row++) {
        const vec g = load(row_of(t->g, t->g_at + row, atom) + c, n);
        vec sum = {0};
        for (const Term *e = t->terms + t->first_term[row], *end = t->terms + t->first_term[row + 1]; e < end; e++) {
            const vec v = e->value * g, a = v * hy[e->k2], b = v * hx[e->k1];
            sum += e->value * (hx[e->k1] * y[e->k2] + x[e->k1] * hy[e->k2]);
            dx[e->k1] += a;
            dy[e->k2] += b;
        }
        store(row_of(t->d_g, t->g_at + row, atom) + c, sum, n);
    }
    store_all(t->d_x, t->x_at, t->n_x, atom, c, n, dx);
    if (!t->same) store_all(t->d_y, t->y_at, t->n_y, atom, c, n, dy);
}

/* members first..last, atoms from..to; nothing is shared between them. Each returns 0 */
#define EACH(channels_of) \
    const int C = (int)t->channels; \
    for (int64_t m = first; m < last; m++) \
        for (int64_t atom = m * t->atoms + from; atom < m * t->atoms + to; atom++) CHUNKS(channels_of) \
    return 0;

#define BODY(n) multiply_channels(t, atom, c, n);
KERNEL(multiply)(const Product *t, int64_t first, int64_t last, int64_t from, int64_t to) { EACH(BODY) }
#undef BODY
#define BODY(n) backward_channels(t, atom, c, n);
KERNEL(multiply_backward)(const Product *t, int64_t first, int64_t last, int64_t from, int64_t to) { EACH(BODY) }
#undef BODY
#define BODY(n) twice_channels(t, atom, c, n);
KERNEL(multiply_twice)(const Product *t, int64_t first, int64_t last, int64_t from, int64_t to) { EACH(BODY) }
#undef BODY
