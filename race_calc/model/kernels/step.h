/* The whole prediction as one call: what the files of the step share.
 *
 *   file          what it does                                                        in Python
 *   arrays.c      finds the arrays of a model by their names                          kernels/arrays.py
 *   reader.c      checks their sizes                                                  kernels/arrays.py
 *   model.c       puts them together: a Model                                         kernels/model_arrays.py
 *   checks.c      whether what they point at is there
 *   geometry.c    distances, harmonics, places on the tables; forces and virial       model/layout.py, model/derivatives.py
 *   linear.c      rows of channels times a matrix                                     model/linear.py
 *   messages.c    messages summed over the neighbours                                 model/interaction.py
 *   products.c    products of the sums                                                model/products.py
 *   powers.c      products of the sums in a layer                                     model/products.py
 *   layer.c       one layer, forward and backward                                     model/interaction.py
 *   readout.c     what is read from a layer                                           model/interaction.py
 *   heads.c       variances and covariances of what was read                          model/heads.py
 *   memory.c      where all that lies on the way
 *   passes.c      a layer for all own atoms, a few at a time                          model/race.py
 *   step.c        threads, and the order of all this                                  model/race.py
 *   stages.c      the same layer by layer, for engines that divide space
 *
 * Members that share all but their last layers share one trunk. A trunk has `last` sets of last layers, side by side in the columns
 * of its readouts, and `energies` that can be differentiated, theirs and means of them; a call asks for the forces of some, its
 * `rows`. Arrays of features are (atoms, 2 l + 1, channels) for each irrep; their gradients have an axis of rows in front.
 */
#include "messages.h"
#include "products.h"

#define IRREPS 8      /* of a layer: l <= 3, both parities */
#define ORDERS 2      /* products of order 2 and 3 */
#define LAYERS 100
#define HIDDEN 64     /* READOUT_HIDDEN and READOUT_GATED of plan.py */
#define GATED 16
#define READ 2        /* irreps that are read through gates: 1o and 2e */

/* a matrix (rows, columns) of every trunk, and its transpose */
typedef struct { int64_t rows, columns; const REAL *w; REAL *transposed; } Matrix;
#define WEIGHT(matrix, t) ((matrix)->w + (t) * (matrix)->rows * (matrix)->columns)
#define TRANSPOSED(matrix, t) ((matrix)->transposed + (t) * (matrix)->rows * (matrix)->columns)

typedef struct { int64_t k, c, live; } Irrep;      /* 2 l + 1, channels, does its gradient matter to the energy? */

enum { SUM, SKIP, POWER };                         /* what makes a part of a layer's output: A itself, h, a product of A */
typedef struct { int64_t kind, index, width, from; } Part; /* its first row in the matrix of the species */

typedef struct {
    int64_t n_paths, n_couplings, n_k, n_targets;
    const Path *paths;                             /* K is numbered alike in both directions */
    const Coupling *couplings;
    const int64_t *first_coupling;
    const int32_t *source_width, *target_width, *target_channels;
} Messages;

typedef struct {
    int64_t n_rows, n_terms;
    const Place *g_at;
    const Term *terms;
    const int32_t *first_term;
} Terms;

typedef struct {                                   /* a product of one order */
    int64_t n_left, n_right, n_targets, channels, n_x, n_y;
    const int64_t *left, *right;                   /* of order 3 the target before it that each left irrep is made of; factors */
    Irrep target[IRREPS];
    Matrix from_before[IRREPS];                    /* Lin into the left irreps of order 3 */
    const Place *x_at, *y_at;
    Terms forward, backward;                       /* of all targets; of the live ones */
} Order;

typedef struct {
    int64_t n_in, n_sum, n_factor, n_order, n_out, radial_width;
    Irrep in[IRREPS], sum[IRREPS], out[IRREPS];
    int64_t scalar;                                /* which output is 0e */
    int64_t couples_as;                            /* the first layer with the same K */
    int64_t collected[IRREPS];                     /* channels that the paths bring into each sum */
    const int64_t *factor;                         /* the sum that each factor of the products is made of */
    Matrix up[IRREPS], down[IRREPS], into_factor[IRREPS];
    Order order[ORDERS];
    int64_t first_part[IRREPS + 1];
    Part part[IRREPS * (2 + ORDERS)];
    Matrix mix[IRREPS];                            /* of every species, one after the other; rows: the parts one under the other */
    Messages forward, backward;
    const REAL *table;                             /* (trunks, knots + 4, radial_width) */
    Matrix hidden, read_out;                       /* (C, 64) and (64, columns) */
    const REAL *energy;                            /* (trunks, energies, 64): of what can be differentiated */
    int64_t read_from[READ];                       /* the output that is read through gates, or -1 */
    Matrix gates[READ], gated[READ], read[READ];
} Layer;

typedef struct {
    int64_t trunks, last, energies, species, layers, l_max, channels, knots;
    int64_t columns, read_columns[READ];           /* of 0e; of 1o and 2e, all last layers side by side */
    double cutoff, softening;
    const int64_t *energy_column;                  /* (last,) in the columns of 0e */
    const double *scale;                           /* (last,) eV */
    const int64_t *variance_column, *trace_column; /* (last,) in the columns of 0e, or -1: not what heads.c makes */
    const int64_t *tensor_column;                  /* (last,) in those of 2e */
    const double *variance_offset, *trace_offset;  /* (trunks, last) */
    const double *traceless;                       /* (5, 3, 3) */
    const REAL *embedding;                         /* (trunks, species, channels) */
    const int64_t *harmonic;                       /* (n_harmonics, 3): a, b, c of Y[c] += value Y[a] Y_1[b] */
    const double *harmonic_value;
    int64_t n_harmonics;
    Layer layer[LAYERS];
    void *block;                                   /* the memory of the transposed matrices */
} Model;

#define N_Y(model) (((model)->l_max + 1) * ((model)->l_max + 1)) /* harmonics of an edge */

/* one graph, and where what is predicted goes; float64 */
typedef struct {
    int64_t atoms, edges, pairs, structures, rows;
    int64_t most_kept;                             /* bytes of one kind that are kept from one stage to the next rather than made again */
    const int64_t *row;                            /* (rows,): which energies are differentiated */
    const int64_t *species;                        /* (N,) */
    const int64_t *first, *neighbour, *pair;       /* as in Task */
    const double *vectors;                         /* (E, 3) Å */
    const int64_t *batch;                          /* (N,) structure of each atom */
    double *atom_energy;                           /* (trunks, N, last) eV */
    double *scalars, *read[READ];                  /* (trunks, N, columns), (trunks, N, 2 l + 1, columns): mean over layers; or NULL */
    double *atom_variance;                         /* (trunks, N, last) eV², or NULL */
    double *log_covariance;                        /* (trunks, last, N, 3, 3), or NULL */
    double *forces, *virial;                       /* (trunks, rows, N, 3), (trunks, rows, B, 3, 3) */
    double *features;                              /* (N, layers, 64) of the first trunk, or NULL */
} Call;

/* threads that work on the same trunk; each has its atoms */
typedef struct Meeting Meeting;
typedef struct { int64_t part, parts; Meeting *all; Meeting *ours; } Team;
void NAME(meet)(Meeting *meeting);

/* geometry of all edges, shared by all trunks */
typedef struct {
    REAL *y;                                       /* (E, (l_max + 1)²) */
    double *unit, *distance;                       /* (E, 3), (E,) */
    double *place, *slope;                         /* (E / 2,): on the tables, and its derivative to the distance */
    int64_t *first_of_pair;                        /* (E / 2,) */
    REAL *coupled[LAYERS];                         /* (E, n_k) of each layer, or NULL where that is too much to keep */
} Geometry;

/* what is kept of one trunk, for all atoms */
typedef struct {
    REAL *h[LAYERS + 1][IRREPS];                   /* what comes into each layer; the last: what leaves the last */
    REAL *u[LAYERS][IRREPS], *factor[LAYERS][IRREPS], *left[LAYERS][IRREPS];
    REAL *hidden[LAYERS];                          /* of the readout, before SiLU */
    REAL *d_h[2][IRREPS];                          /* (rows, …); of even and odd layers */
    REAL *d_y;                                     /* (rows, E, …) */
} Trunk;

/* a thread's own: of the few atoms at work, and what it adds to atoms and pairs that others add to as well */
typedef struct {
    REAL *collected[IRREPS], *sum[IRREPS], *power[ORDERS][IRREPS], *read, *activated, *gate, *inner;
    REAL *d_collected[IRREPS], *d_sum[IRREPS], *d_power[ORDERS][IRREPS], *d_factor[IRREPS], *d_left[IRREPS], *d_right[IRREPS];
    REAL *d_hidden, *d_u[IRREPS];                  /* d_u: of all atoms */
    double *d_place;                               /* (rows, E / 2) */
    REAL *kept[LAYERS];                            /* (E / 2, 2, W): radial weights and their slopes of the pairs of own atoms, or NULL as
                                                      above; a thread that read those of another would wait for its cache */
    double *forces, *virial;
    int64_t *by_species, *first_of_species;
} Own;

enum { PACK, PUT, ADD };                           /* what stages.c does with a buffer */

#define ATOMS_AT_ONCE 32 /* so that what lies between two stages stays in the cache */

typedef struct {
    const Model *model;
    const Call *call;
    Geometry geometry;
    Trunk *trunk;
    Own *own, *others;                             /* others: of all threads of the team */
    Team team;
    int64_t t;                                     /* which trunk */
    int64_t from, to;                              /* own atoms */
} Work;

typedef struct { char *block; size_t used; } Arena;
void *NAME(take)(Arena *arena, int64_t count, size_t size);
void NAME(take_geometry)(Arena *arena, const Model *model, const Call *call, Geometry *geometry);
void NAME(take_trunk)(Arena *arena, const Model *model, const Call *call, Trunk *trunk);
void NAME(take_own)(Arena *arena, const Model *model, const Call *call, Own *own);

/* out[atom, k] = in[atom, k] · w for rows of `k` each, of atoms from..to or of those in `list`; `add` to what is there */
typedef struct { const REAL *in; int64_t in_from, in_width; REAL *out; int64_t out_from, out_width; } Rows;
void NAME(times)(Rows rows, int64_t k, const int64_t *list, int64_t from, int64_t to, const REAL *w, int64_t ldw, int64_t n_in,
                 int64_t n_out, int add);
void NAME(forwards)(const Matrix *m, int64_t t, Rows rows, int64_t k, int64_t from, int64_t to, int add);
void NAME(backwards)(const Matrix *m, int64_t t, Rows rows, int64_t k, int64_t from, int64_t to, int add);

void NAME(place_edges)(const Model *model, const Call *call, Geometry *geometry, int64_t from, int64_t to);
void NAME(heads)(const Work *work);
void NAME(finish_forces)(Work *work);
void NAME(sort_species)(Work *work, int64_t from, int64_t to);
void NAME(embed)(Work *work, int64_t from, int64_t to);
int NAME(pass_forward)(Work *work, int64_t i);
void NAME(pass_begins_back)(Work *work);
int NAME(pass_backward)(Work *work, int64_t i);
void NAME(layer_up)(Work *work, int64_t i, int64_t from, int64_t to);
int NAME(layer_forward)(Work *work, int64_t i, int64_t from, int64_t to);
int NAME(layer_backward)(Work *work, int64_t i, int64_t from, int64_t to);
void NAME(layer_down)(Work *work, int64_t i);
void NAME(powers_forward)(Work *work, int64_t i, int64_t from, int64_t count);
void NAME(powers_backward)(Work *work, int64_t i, int64_t row, int64_t from, int64_t count);
void NAME(readout_forward)(Work *work, int64_t i, int64_t from, int64_t to);
void NAME(readout_backward)(Work *work, int64_t i, int64_t from, int64_t to);
