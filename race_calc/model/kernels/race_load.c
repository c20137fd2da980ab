/* A model from a file of `race-calc export c`, with the functions for this processor. */
#include <stdio.h>
#include "arrays.h"
#include "blake2b.h"
#include "race_model.h"

#define VERSION 1
typedef struct { char magic[8]; int64_t version, real, bytes; uint8_t digest[32]; } FileHead; /* before the block of arrays; 64 bytes */

const char *variant(void);

#define DECLARE(real, variant) \
    void *load_model_##real##_##variant(const char *block, char *problem); \
    void free_model_##real##_##variant(void *model); \
    int64_t step_bytes_##real##_##variant(const void *model, const Call *call, int64_t threads); \
    int step_##real##_##variant(const void *model, const Call *call, int64_t threads, char *space); \
    int64_t stages_bytes_##real##_##variant(const void *model, const Call *call); \
    void *stages_begin_##real##_##variant(const void *model, const Call *call, int64_t owned, char *space); \
    int stages_forward_##real##_##variant(void *stages, int64_t trunk, int64_t layer); \
    int stages_backward_##real##_##variant(void *stages, int64_t layer); \
    int64_t stages_width_##real##_##variant(const void *model, int64_t layer); \
    void stages_move_##real##_##variant(void *stages, int64_t layer, int back, int how, int64_t count, const int64_t *atoms, double *buffer);
#define OF(real, variant) \
    (Functions){load_model_##real##_##variant, free_model_##real##_##variant, step_bytes_##real##_##variant, step_##real##_##variant, \
                stages_bytes_##real##_##variant, stages_begin_##real##_##variant, stages_forward_##real##_##variant, \
                stages_backward_##real##_##variant, stages_width_##real##_##variant, stages_move_##real##_##variant}

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

static const double *optional(const Arrays *arrays, const char *name, int64_t count)
{
    return race_array_bytes(arrays, name) < 0 ? NULL : race_array(arrays, name, count * sizeof(double));
}

static Calibration calibration(const Arrays *arrays, const race_info *info)
{
    Calibration found = {.noise = optional(arrays, "noise", 2), .last_layer = optional(arrays, "last_layer", info->features * info->features)};
    found.energy = optional(arrays, "energy_factors", 2);
    found.force = optional(arrays, "force_factor", 1);
    found.sources = optional(arrays, "energy_sources", 6);
    found.form = optional(arrays, "force_form", 5);
    if (found.form) found.of_element = race_array(arrays, "force_elements", info->n_elements * sizeof(double));
    return found;
}

/* what race.h tells, and what is added to the network; the block has been checked by the step */
static void about(race_model *m, const Arrays *arrays)
{
    const int64_t *sizes = race_array(arrays, "sizes", 11 * sizeof(int64_t)), elements = sizes[3];
    m->info = (race_info){.n_elements = elements, .trunks = sizes[0], .layers = sizes[4], .members = sizes[0] * sizes[1], .features = sizes[4] * HIDDEN};
    m->last = sizes[1], m->energies = sizes[2], m->columns = sizes[8], m->widths[0] = sizes[9], m->widths[1] = sizes[10];
    m->mean_row = m->energies > m->last ? m->last : -1;
    m->info.elements = race_array(arrays, "numbers", elements * sizeof(int64_t));
    m->reference = race_array(arrays, "reference", elements * sizeof(double));
    m->info.cutoff = *(const double *)race_array(arrays, "constants", 2 * sizeof(double));
    m->info.has_variance = *(const int64_t *)race_array(arrays, "variance_column", m->last * sizeof(int64_t)) >= 0;
    m->info.has_covariance = *(const int64_t *)race_array(arrays, "trace_column", m->last * sizeof(int64_t)) >= 0;
    m->calibration = calibration(arrays, &m->info);
    m->info.calibrated = m->calibration.energy || m->calibration.force;
    m->info.closed_form = !!m->calibration.last_layer;
    if (race_array_bytes(arrays, "zbl") < 0) return;
    m->repulsion.elements = elements;
    m->repulsion.pairs = race_array(arrays, "zbl", elements * elements * 3 * sizeof(double));
    m->repulsion.waves = race_array(arrays, "zbl_waves", 8 * sizeof(double));
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
        m->call = functions(head.real == 4);
        m->model = m->call.load(m->block, message);
        if (m->model) about(m, &arrays);
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
