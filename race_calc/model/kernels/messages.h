/* What the kernels of messages.c are told: the paths of one layer, the edges, and where the arrays are. */
#include "vectors.h"

typedef struct { int32_t l1, l3, source, target, channels, r, o, k, again; } Path; /* again: an earlier path has this k */
typedef struct { int32_t k, y; REAL value; } Coupling;  /* K[k] += value Y[y]; sorted by y */

typedef struct {
    int64_t members, atoms;               /* M, N */
    int64_t edges, pairs;                 /* E, sorted by centre; E / 2 rows of radial weights */
    int64_t n_paths, n_couplings, n_k, n_y, n_targets, radial_width, rows;
    int64_t table_member;                 /* stride of a member in the table, 0 if shared */
    int64_t one_trunk;                    /* all members read the u and the radial weights of the first */
    int64_t g_atoms, g_from;              /* rows of a member in g, and the atom of the first of them */
    const Path *paths;
    const Coupling *couplings;
    const int64_t *first_coupling;        /* (n_y + 1,) of each y */
    const REAL *coupled;                  /* (E, n_k): K of every edge, or NULL: made here, from y */
    const REAL *kept;                     /* (E / 2, 2, W): radial weights and slopes of every pair, or NULL: from radial or table */
    const int64_t *first, *neighbour, *pair; /* (N + 1,) first edge of each centre, (E,), row of R (E,) */
    const int64_t *first_of_pair;         /* (E / 2,) first edge of each pair */
    const int32_t *source_width, *target_width; /* (2 l + 1) * channels of a row of u and g */
    const int32_t *target_channels;
    const REAL *y; int64_t y_member;      /* (1 or M, E, n_y) and the stride of a member, 0 if shared */
    const REAL *radial;                   /* (M, E / 2, W) or NULL */
    const REAL *table;                    /* (M, rows, W) or NULL */
    const double *place;                  /* (E / 2,) with a table */
    const REAL *const *u;                 /* per source (M, N, 2 l1 + 1, C) */
    REAL *const *g;                       /* per target (M, N, 2 l3 + 1, channels) */
    /* gradients: written by `backward` */
    REAL *d_y;                            /* (M, E, n_y), added to, or NULL */
    REAL *d_radial;                       /* (M, E / 2, W), added to; NULL with a table */
    double *d_place;                      /* (M, E / 2), added to; with a table */
    REAL *const *d_u;
    /* directions: read by `twice`, which writes d_radial, d_u and d_g */
    const REAL *h_y, *h_radial;           /* (M, E, n_y), (M, E / 2, W) */
    const REAL *const *h_u;
    REAL *const *d_g;
} Task;

void NAME(couple)(const Coupling *couplings, int64_t n_couplings, int64_t n_k, const REAL *y, REAL *K);
void NAME(ask_for)(const REAL *table, int64_t rows, int64_t width, double place);
void NAME(look_up)(const REAL *table, int64_t rows, int64_t width, double place, REAL *R, REAL *slope); /* slope may be NULL */
KERNEL(forward)(const Task *t, int64_t first, int64_t last, int64_t from, int64_t to);
KERNEL(backward)(const Task *t, int64_t first, int64_t last, int64_t from, int64_t to);
