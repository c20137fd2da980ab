/* Messages of one layer summed over the neighbours, their gradients, and the gradients of those.
 *
 * Everything here belongs to one form, linear in each of its four arguments:
 *
 *   Q = sum over members m, edges e = (i, j), paths p, components k1, k3 and channels c of
 *       K_p[e, k1, k3] R[m, pair of e, r_p + c] u_s[m, j, k1, c] g_t[m, i, k3, o_p + c]
 *
 * K couples with the spherical harmonics, K_p[k1, k3] = sum_k2 C^{l3}_{l1 l2}[k1, k2, k3] Y[k2]; a path without
 * harmonics (k < 0) has K = 1. `forward` is dQ/dg, `backward` dQ/d(Y, R, u), `twice` the gradient of
 * <hY, dQ/dY> + <hR, dQ/dR> + <hu, dQ/du> to (R, u, g). An edge tensor of one path never leaves the registers.
 *
 * R comes either as an array (M, E / 2, W) or from a table of coefficients of quintic B-splines (M, rows, W) on knots one
 * apart; `place` says where a pair is, row k belongs to the spline of the knots k - 5 to k + 1.
 */
#include "messages.h"
#include "paths.h"

static void add(REAL *restrict sum, const REAL *restrict more, int64_t count)
{
    for (int64_t i = 0; i < count; i++) sum[i] += more[i];
}

/* ---- blocks of edges: what their edges share is computed once and stays in the cache ---- */

#define BLOCK 1024 /* edges, unless one centre has more */

typedef struct {
    int64_t centre, centres, edges, pairs; /* of the block */
    Edge *edge;
    int64_t *pair;                         /* its undirected pairs */
    int32_t *slot;                         /* of each edge in R and slope */
    REAL *K, *hK, *R, *slope, *dR;         /* (edges, n_k), (n_k), (pairs, W) twice, (W) */
    vec *dK;                               /* in lanes */
    void *all;
} Room;

static size_t padded(size_t count) { return (count * sizeof(REAL) + 63) / 64 * 64; }

static int make_room(const Task *t, Room *room, int64_t from, int64_t to)
{
    int64_t most = BLOCK;
    for (int64_t i = from; i < to; i++)
        if (t->first[i + 1] - t->first[i] > most) most = t->first[i + 1] - t->first[i];
    if (most > t->edges) most = t->edges + 1;
    const size_t W = t->radial_width, rows = t->table && !t->kept ? most : 0;
    size_t size[] = {padded((t->n_k + 1) * LANES), padded(t->coupled ? 1 : most * t->n_k + 1), padded(t->n_k + 1),
                     padded(rows * W), padded(rows * W), padded(W), (most * sizeof(Edge) + 63) / 64 * 64,
                     (most * sizeof(int64_t) + 63) / 64 * 64, (most * sizeof(int32_t) + 63) / 64 * 64};
    size_t bytes = 0;
    for (size_t k = 0; k < sizeof(size) / sizeof(*size); k++) bytes += size[k];
    if (posix_memalign(&room->all, 64, bytes)) return 1;
    char *at = room->all;
    void **place[] = {(void **)&room->dK, (void **)&room->K, (void **)&room->hK, (void **)&room->R,
                      (void **)&room->slope, (void **)&room->dR, (void **)&room->edge, (void **)&room->pair,
                      (void **)&room->slot};
    for (size_t k = 0; k < sizeof(size) / sizeof(*size); k++) { *place[k] = at; at += size[k]; }
    memset(room->dR, 0, W * sizeof(REAL)); /* of channels that no path here uses */
    return 0;
}

void NAME(couple)(const Coupling *couplings, int64_t n_couplings, int64_t n_k, const REAL *y, REAL *K)
{
    memset(K, 0, n_k * sizeof(REAL));
    for (int64_t q = 0; q < n_couplings; q++) K[couplings[q].k] += couplings[q].value * y[couplings[q].y];
}

static void couple(const Task *t, const REAL *y, REAL *K) { NAME(couple)(t->couplings, t->n_couplings, t->n_k, y, K); }

/* gather centres from `centre` on, up to `to`, into a block */
static void fill_block(const Task *t, Room *b, int64_t centre, int64_t to)
{
    const int64_t e0 = t->first[centre];
    int64_t stop = centre + 1;
    while (stop < to && t->first[stop + 1] - e0 <= BLOCK) stop++;
    b->centre = centre;
    b->centres = stop - centre;
    b->edges = t->first[stop] - e0;
    b->pairs = 0;
    for (int64_t k = 0; k < b->edges; k++) {
        Edge *edge = b->edge + k;
        edge->e = e0 + k;
        edge->neighbour = t->neighbour[e0 + k];
        edge->pair = t->pair[e0 + k];
        edge->K = t->coupled ? t->coupled + edge->e * t->n_k : b->K + k * t->n_k;
        if (!t->coupled && !t->y_member) couple(t, t->y + (e0 + k) * t->n_y, b->K + k * t->n_k);
        if (t->kept) {
            edge->R = t->kept + edge->pair * 2 * t->radial_width;
            edge->slope = edge->R + t->radial_width;
        } else if (t->table) {
            const int64_t other = t->first_of_pair[edge->pair] - e0; /* its first edge, if that is in the block */
            if (other >= 0 && other < k) b->slot[k] = b->slot[other];
            else { b->slot[k] = (int32_t)b->pairs; b->pair[b->pairs++] = edge->pair; }
        }
    }
}

static int64_t row_of(int64_t rows, double place)
{
    return place > 0 ? (place < (double)(rows - 6) ? (int64_t)place : rows - 6) : 0;
}

/* asks for what `look_up` will read: a table is larger than a cache. In a molecule, where distances differ; in crystals it costs time */
void NAME(ask_for)(const REAL *table, int64_t rows, int64_t W, double place)
{
    const REAL *at = table + row_of(rows, place) * W;
    for (int64_t w = 0; w < 6 * W; w += 64 / (int64_t)sizeof(REAL)) __builtin_prefetch(at + w);
}

/* radial weights of one pair from the table, and their slopes to `place`; as differences to one coefficient, which are
 * exact in float32 where neighbours are alike */
void NAME(look_up)(const REAL *table, int64_t rows, int64_t W, double place, REAL *restrict R, REAL *restrict slope)
{
    const int64_t k = row_of(rows, place);
    const double x = place - (double)k, x2 = x * x, x3 = x2 * x, x4 = x2 * x2, x5 = x4 * x, y2 = (1 - x) * (1 - x);
    const REAL b0 = y2 * y2 * (1 - x) / 120, b1 = (26 - 50 * x + 20 * x2 + 20 * x3 - 20 * x4 + 5 * x5) / 120;
    const REAL b3 = (26 + 50 * x + 20 * x2 - 20 * x3 - 20 * x4 + 10 * x5) / 120;
    const REAL b4 = (1 + 5 * x + 10 * x2 + 10 * x3 + 5 * x4 - 5 * x5) / 120, b5 = x5 / 120;
    const REAL d0 = -y2 * y2 / 24, d1 = (-10 + 8 * x + 12 * x2 - 16 * x3 + 5 * x4) / 24;
    const REAL d3 = (10 + 8 * x - 12 * x2 - 16 * x3 + 10 * x4) / 24;
    const REAL d4 = (1 + 4 * x + 6 * x2 + 4 * x3 - 5 * x4) / 24, d5 = x4 / 24;
    const REAL *c0 = table + k * W, *c1 = c0 + W, *c2 = c1 + W, *c3 = c2 + W, *c4 = c3 + W, *c5 = c4 + W;
    for (int64_t w = 0; w < W; w++) {
        const REAL c = c2[w], v0 = c0[w] - c, v1 = c1[w] - c, v3 = c3[w] - c, v4 = c4[w] - c, v5 = c5[w] - c;
        R[w] = c + (b0 * v0 + b1 * v1 + b3 * v3 + b4 * v4 + b5 * v5);
        if (slope) slope[w] = d0 * v0 + d1 * v1 + d3 * v3 + d4 * v4 + d5 * v5;
    }
}

/* what differs between members: radial weights, and K where the harmonics are a member's own */
static void fill_member(const Task *t, Room *b, int64_t m, int again, int with_slope)
{
    const int64_t W = t->radial_width;
    if (t->kept || (again && t->one_trunk)) return; /* all is there */
    const REAL *table = t->table + m * t->table_member;
    for (int64_t k = 0; k < b->pairs; k++)
        NAME(look_up)(table, t->rows, W, t->place[b->pair[k]], b->R + k * W, with_slope ? b->slope + k * W : NULL);
    for (int64_t k = 0; k < b->edges; k++) {
        Edge *edge = b->edge + k;
        if (t->y_member) couple(t, t->y + m * t->y_member + edge->e * t->n_y, b->K + k * t->n_k);
        edge->R = t->table ? b->R + b->slot[k] * W : t->radial + (m * t->pairs + edge->pair) * W;
        edge->slope = b->slope + (t->table ? b->slot[k] * W : 0);
    }
}

/* ---- the three kernels, `forward_float_avx2` and so on: members first..last, centres from..to; d_y, d_u, d_radial and
 * d_place are added to. Each returns 0, or 1 when there is no memory ---- */

#define ROW(list, index, m, row, widths) ((list)[index] + ((m) * t->atoms + (row)) * (int64_t)(widths)[index])
#define TRUNK(m) (t->one_trunk ? 0 : (m))
#define G_ROW(p, m, i) (t->g[(p)->target] + ((m) * t->g_atoms + (i) - t->g_from) * t->target_width[(p)->target] + (p)->o)
#define BLOCKS_AND_MEMBERS(with_slope) \
    for (int64_t centre = from; centre < to; centre += b.centres) { \
        fill_block(t, &b, centre, to); \
        for (int64_t m = first; m < last; m++) { \
            fill_member(t, &b, m, m > first, with_slope); \
            for (int64_t i = centre; i < centre + b.centres; i++) {
#define END_BLOCKS_AND_MEMBERS } } }
#define EDGES(i) (b.edge + (t->first[i] - t->first[centre]))

KERNEL(forward)(const Task *t, int64_t first, int64_t last, int64_t from, int64_t to)
{
    Room b;
    if (make_room(t, &b, from, to)) return 1;
    BLOCKS_AND_MEMBERS(0)
        const Edge *edge = EDGES(i), *end = EDGES(i + 1);
        for (int64_t q = 0; q < t->n_paths; q++) {
            const Path *p = t->paths + q;
            REAL *g = G_ROW(p, m, i);
            const REAL *u = ROW(t->u, p->source, TRUNK(m), 0, t->source_width);
            DISPATCH(path_forward, p, p->channels, edge, end, p, u, t->source_width[p->source], g, t->target_channels[p->target])
        }
    END_BLOCKS_AND_MEMBERS
    free(b.all);
    return 0;
}

static void finish_edge(const Task *t, const Room *b, int64_t m, const Edge *edge)
{
    const int64_t W = t->radial_width, row = m * t->pairs + edge->pair;
    if (t->d_y) {
        REAL *d_y = t->d_y + (m * t->edges + edge->e) * t->n_y;
        for (int64_t y = 0; y < t->n_y; y++) {
            const Coupling *c = t->couplings + t->first_coupling[y], *end = t->couplings + t->first_coupling[y + 1];
            vec one = {0}, two = {0}; /* two chains of additions: one would wait for itself */
            for (; c + 1 < end; c += 2) {
                one += c[0].value * b->dK[c[0].k];
                two += c[1].value * b->dK[c[1].k];
            }
            if (c < end) one += c->value * b->dK[c->k];
            d_y[y] += total(one + two);
        }
    }
    if (t->table) {
        vec sum = {0};
        int64_t w = 0;
        for (; w + LANES <= W; w += LANES) sum += load(b->dR + w, LANES) * load(edge->slope + w, LANES);
        if (w < W) sum += load(b->dR + w, W - w) * load(edge->slope + w, W - w);
        t->d_place[row] += total(sum);
    } else add(t->d_radial + row * W, b->dR, W);
}

KERNEL(backward)(const Task *t, int64_t first, int64_t last, int64_t from, int64_t to)
{
    Room b;
    if (make_room(t, &b, from, to)) return 1;
    BLOCKS_AND_MEMBERS(1)
        for (const Edge *e = EDGES(i); e < EDGES(i + 1); e++) {
            for (int64_t q = 0; q < t->n_paths; q++) {
                const Path *p = t->paths + q;
                const REAL *u = ROW(t->u, p->source, TRUNK(m), e->neighbour, t->source_width);
                REAL *du = ROW(t->d_u, p->source, m, e->neighbour, t->source_width);
                const REAL *g = G_ROW(p, m, i);
                vec *dK = t->d_y ? b.dK + p->k : NULL;
                DISPATCH(path_backward, p, p->channels, e->K + p->k, e->R + p->r, u, g, t->target_channels[p->target], dK,
                         p->again, b.dR + p->r, du)
            }
            finish_edge(t, &b, m, e);
        }
    END_BLOCKS_AND_MEMBERS
    free(b.all);
    return 0;
}

KERNEL(twice)(const Task *t, int64_t first, int64_t last, int64_t from, int64_t to)
{
    Room b;
    if (make_room(t, &b, from, to)) return 1;
    const int64_t W = t->radial_width;
    BLOCKS_AND_MEMBERS(0)
        for (int64_t q = 0; q < t->n_targets; q++)
            memset(ROW(t->d_g, q, m, i, t->target_width), 0, t->target_width[q] * sizeof(REAL));
        for (const Edge *e = EDGES(i); e < EDGES(i + 1); e++) {
            const REAL *hR = t->h_radial + (m * t->pairs + e->pair) * W;
            couple(t, t->h_y + (m * t->edges + e->e) * t->n_y, b.hK);
            for (int64_t q = 0; q < t->n_paths; q++) {
                const Path *p = t->paths + q;
                const REAL *u = ROW(t->u, p->source, m, e->neighbour, t->source_width);
                const REAL *hu = ROW(t->h_u, p->source, m, e->neighbour, t->source_width);
                REAL *du = ROW(t->d_u, p->source, m, e->neighbour, t->source_width);
                const REAL *g = G_ROW(p, m, i);
                REAL *dg = ROW(t->d_g, p->target, m, i, t->target_width) + p->o;
                DISPATCH(path_twice, p, p->channels, e->K + p->k, b.hK + p->k, e->R + p->r, hR + p->r, u, hu, g,
                         t->target_channels[p->target], b.dR + p->r, du, dg)
            }
            add(t->d_radial + (m * t->pairs + e->pair) * W, b.dR, W);
        }
    END_BLOCKS_AND_MEMBERS
    free(b.all);
    return 0;
}
