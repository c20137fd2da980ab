/* race.h on the compiled step: files, elements, numbers of pairs, and what is added to the network. */
#include <stdio.h>
#include "arrays.h"
#include "race.h"
#include "race_structure.h"
#include "blake2b.h"
#include "step.h"

#define VERSION 1
typedef struct { char magic[8]; int64_t version, real, bytes; uint8_t digest[32]; } FileHead; /* before the block of arrays; 64 bytes */

const char *variant(void);

/* the step for each type of number and kind of processor */
typedef struct {
    void *(*load)(const char *block, char *problem);
    void (*free)(void *model);
    int64_t (*bytes)(const void *model, const Call *call, int64_t threads);
    int (*step)(const void *model, const Call *call, int64_t threads, char *space);
} Functions;

#define DECLARE(real, variant) \
    void *load_model_##real##_##variant(const char *block, char *problem); \
    void free_model_##real##_##variant(void *model); \
    int64_t step_bytes_##real##_##variant(const void *model, const Call *call, int64_t threads); \
    int step_##real##_##variant(const void *model, const Call *call, int64_t threads, char *space);
#define OF(real, variant) \
    (Functions){load_model_##real##_##variant, free_model_##real##_##variant, step_bytes_##real##_##variant, step_##real##_##variant}

DECLARE(double, baseline)
DECLARE(float, baseline)
#ifdef VARIANTS
DECLARE(double, avx2)
DECLARE(float, avx2)
DECLARE(double, avx512)
DECLARE(float, avx512)
#endif

static Functions functions(int is_float)
{
#ifdef VARIANTS
    if (!strcmp(variant(), "avx512")) return is_float ? OF(float, avx512) : OF(double, avx512);
    if (!strcmp(variant(), "avx2")) return is_float ? OF(float, avx2) : OF(double, avx2);
#endif
    return is_float ? OF(float, baseline) : OF(double, baseline);
}

struct race_model {
    char *block;
    void *model;
    Functions call;
    race_info info;
    int64_t last, energies, columns, widths[READ], layers;
    int64_t mean_row;                      /* which energy is the mean of the members; -1 where each member has a trunk */
    int64_t trunks;
    const double *reference;               /* (S,) eV of each element */
    Repulsion repulsion;
};

race_status race_fail(race_status status, char *message, const char *text)
{
    snprintf(message, RACE_MESSAGE, "%s", text);
    return status;
}

/* the block of a file: at a multiple of 64, with its hash checked */
static race_status read_block(const char *file, FileHead *head, char **block, char *message)
{
    FILE *in = fopen(file, "rb");
    if (!in) { snprintf(message, RACE_MESSAGE, "%.180s cannot be opened", file); return RACE_FILE; }
    uint8_t digest[32];
    race_status status = RACE_OK;
    if (fread(head, sizeof *head, 1, in) != 1 || memcmp(head->magic, "RACEFILE", 8))
        status = race_fail(RACE_FILE, message, "this is no file of `race-calc export c`");
    else if (head->version > VERSION) status = race_fail(RACE_NEWER, message, "the file is from a newer version of race_calc: update this program");
    else if (head->bytes < (int64_t)sizeof(Head) || (head->real != 4 && head->real != 8)) status = race_fail(RACE_FILE, message, "the file is damaged");
    else if (posix_memalign((void **)block, 64, head->bytes)) { *block = NULL; status = race_fail(RACE_MEMORY, message, "no memory for the model"); }
    else if (fread(*block, 1, head->bytes, in) != (size_t)head->bytes) status = race_fail(RACE_FILE, message, "the file is cut short");
    else {
        race_blake2b(*block, head->bytes, digest);
        if (memcmp(digest, head->digest, 32)) status = race_fail(RACE_FILE, message, "the file is damaged: its hash differs");
        else if (!race_arrays_fit(*block, head->bytes)) status = race_fail(RACE_FILE, message, "the arrays of the file do not fit into it");
    }
    fclose(in);
    return status;
}

race_status race_load(const char *file, race_model **model, char *message)
{
    FileHead head;
    race_model *m = calloc(1, sizeof *m);
    *model = NULL;
    message[0] = 0;
    if (!m) return race_fail(RACE_MEMORY, message, "no memory for the model");
    race_status status = read_block(file, &head, &m->block, message);
    if (!status) {
        const Arrays arrays = {m->block, message};
        const int64_t *sizes = race_array(&arrays, "sizes", 11 * sizeof(int64_t));
        m->info.n_elements = race_array_bytes(&arrays, "numbers") / (int64_t)sizeof(int64_t);
        m->info.elements = race_array(&arrays, "numbers", m->info.n_elements * sizeof(int64_t));
        m->reference = race_array(&arrays, "reference", m->info.n_elements * sizeof(double));
        const double *constants = race_array(&arrays, "constants", 2 * sizeof(double));
        if (race_array_bytes(&arrays, "zbl") >= 0) {
            m->repulsion.elements = m->info.n_elements;
            m->repulsion.pairs = race_array(&arrays, "zbl", m->info.n_elements * m->info.n_elements * 3 * sizeof(double));
            m->repulsion.waves = race_array(&arrays, "zbl_waves", 8 * sizeof(double));
        }
        if (!*message) {
            m->trunks = sizes[0], m->last = sizes[1], m->energies = sizes[2], m->layers = sizes[4], m->columns = sizes[8];
            m->widths[0] = sizes[9], m->widths[1] = sizes[10];
            m->mean_row = m->energies > m->last ? m->last : -1;
            m->info.members = m->trunks * m->last;
            m->info.features = m->layers * HIDDEN;
            m->info.cutoff = constants[0];
            const int64_t *columns = race_array(&arrays, "variance_column", m->last * sizeof(int64_t));
            const int64_t *traces = race_array(&arrays, "trace_column", m->last * sizeof(int64_t));
            m->info.has_variance = columns && columns[0] >= 0;
            m->info.has_covariance = traces && traces[0] >= 0;
            m->call = functions(head.real == 4);
            if (!*message) m->model = m->call.load(m->block, message);
        }
        if (*message) status = RACE_FILE;
    }
    if (status) race_free(m);
    else *model = m;
    return status;
}

void race_free(race_model *m)
{
    if (!m) return;
    if (m->model) m->call.free(m->model);
    free(m->block);
    free(m);
}

race_info race_about(const race_model *m) { return m->info; }

typedef struct { int64_t *species, *pair, *batch, *row; double *out; char *space; double *known; } Memory;

static void release(Memory *x)
{
    free(x->species);
    free(x->out);
    free(x->space);
}

/* what the network gives and what is added, to where they are wanted */
static void hand_over(const race_model *m, const race_structure *s, const race_results *to, const Call *call, const double *known)
{
    const int64_t n = s->atoms, rows = call->rows * m->trunks;
    for (int64_t t = 0; t < m->trunks; t++)
        for (int64_t q = 0; q < m->last; q++) {
            const int64_t member = t * m->last + q;
            double energy = 0, variance = 0;
            for (int64_t i = 0; i < n; i++) {
                const double one = call->atom_energy[(t * n + i) * m->last + q] + m->reference[call->species[i]] + known[i];
                energy += one;
                if (to->atom_energies) to->atom_energies[member * n + i] = one;
                if (call->atom_variance) variance += call->atom_variance[(t * n + i) * m->last + q];
            }
            if (to->energies) to->energies[member] = energy;
            if (to->variances && call->atom_variance) to->variances[member] = variance;
        }
    const int64_t wanted = to->of_members ? m->info.members : 1;
    for (int64_t row = 0; row < wanted; row++) {
        const int64_t first = to->of_members ? row : 0, stop = to->of_members ? row + 1 : rows; /* of the mean: all rows */
        for (int64_t k = 0; to->forces && k < 3 * n; k++) {
            double sum = 0;
            for (int64_t one = first; one < stop; one++) sum += call->forces[one * 3 * n + k];
            to->forces[row * 3 * n + k] = sum / (double)(stop - first) + known[n + k];
        }
        for (int64_t k = 0; to->virials && k < 9; k++) {
            double sum = 0;
            for (int64_t one = first; one < stop; one++) sum += call->virial[one * 9 + k];
            to->virials[row * 9 + k] = sum / (double)(stop - first) + known[4 * n + k];
        }
    }
}

race_status race_evaluate(const race_model *m, const race_structure *s, const race_results *to, int threads, char *message)
{
    const int64_t n = s->atoms, edges = n > 0 ? s->first[n] : 0, t = m->trunks;
    message[0] = 0;
    if (n < 1) return race_fail(RACE_GEOMETRY, message, "the structure has no atoms");
    if (edges % 2) return race_fail(RACE_PAIRS, message, "the number of directed pairs is odd: every pair must be there in both directions");
    const int64_t rows = !to->forces && !to->virials ? 0 : to->of_members || m->mean_row < 0 ? m->last : 1;
    Memory x = {0};
    int64_t *whole = x.species = calloc(2 * n + edges + m->last + 1, sizeof(int64_t));
    const int64_t sizes[] = {t * n * m->last, t * n * m->columns, t * n * 3 * m->widths[0], t * n * 5 * m->widths[1], t * n * m->last,
                             t * rows * n * 3, t * rows * 9, 4 * n + 9};
    int64_t total = 0;
    for (int k = 0; k < 8; k++) total += sizes[k];
    double *part = x.out = calloc(total + 1, sizeof(double)), *place[8];
    if (!whole || !part) { release(&x); return race_fail(RACE_MEMORY, message, "no memory for the results"); }
    for (int k = 0; k < 8; k++) { place[k] = part; part += sizes[k]; }
    x.pair = whole + n, x.batch = x.pair + edges, x.row = x.batch + n, x.known = place[7];
    race_status status = race_number(&m->info, s, x.species, x.pair, message);
    if (!status) {
        for (int64_t k = 0; k < rows; k++) x.row[k] = rows == 1 && m->mean_row >= 0 ? m->mean_row : k;
        const Call call = {
            .atoms = n, .edges = edges, .pairs = edges / 2, .structures = 1, .rows = rows, .most_kept = 1 << 24, .row = x.row,
            .species = x.species, .first = s->first, .neighbour = s->neighbour, .pair = x.pair, .vectors = s->vectors, .batch = x.batch,
            .atom_energy = place[0], .scalars = place[1], .read = {m->widths[0] ? place[2] : NULL, m->widths[1] ? place[3] : NULL},
            .atom_variance = m->info.has_variance ? place[4] : NULL,
            .log_covariance = m->info.has_covariance ? to->log_covariances : NULL,
            .forces = place[5], .virial = place[6], .features = to->features,
        };
        if (posix_memalign((void **)&x.space, 64, m->call.bytes(m->model, &call, threads))) x.space = NULL;
        if (!x.space || m->call.step(m->model, &call, threads, x.space)) status = race_fail(RACE_MEMORY, message, "no memory or no thread");
        else {
            race_repel(&m->repulsion, s, x.species, x.known, x.known + n, x.known + 4 * n);
            hand_over(m, s, to, &call, x.known);
        }
    }
    release(&x);
    return status;
}
