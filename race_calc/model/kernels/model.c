/* A Model from the arrays that model_arrays.py writes. Sizes are checked here; what the arrays hold is as model_arrays.py made it. */
#include <stdio.h>
#include "arrays.h"
#include "step.h"

#define MATRICES (LAYERS * ((3 + ORDERS) * IRREPS + 2 + 3 * READ)) /* up, down, factors, mix, left factors; readouts */

typedef struct {
    const Arrays *arrays;
    Model *model;
    char at[32];                                   /* before the names: "2." of the layer 2 */
    Matrix *matrices[MATRICES];
    int64_t stacked[MATRICES]; /* matrices one after the other in each */
    int64_t n_matrices;
} Reader;

static const void *get(Reader *r, const char *name, int64_t count, int64_t size)
{
    char whole[80];
    snprintf(whole, sizeof whole, "%s%.40s", r->at, name);
    return race_array(r->arrays, whole, count * size);
}

#define INTEGERS(name, count) ((const int64_t *)get(r, name, count, sizeof(int64_t)))
#define ALL(name, Type) (snprintf(whole, sizeof whole, "%s%s", r->at, name), race_array_bytes(r->arrays, whole) / (int64_t)sizeof(Type))

/* copies whole numbers into fields that lie side by side; zeros where there is a problem */
static void fields(Reader *r, const char *name, int64_t *out, int64_t count)
{
    const int64_t *found = INTEGERS(name, count);
    for (int64_t k = 0; k < count; k++) out[k] = found ? found[k] : 0;
}

static void matrix(Reader *r, const char *name, int64_t index, int64_t rows, int64_t columns, int64_t stacked, Matrix *out)
{
    char whole[40];
    if (index >= 0) snprintf(whole, sizeof whole, "%.20s.%d", name, (int)index);
    else snprintf(whole, sizeof whole, "%.39s", name);
    *out = (Matrix){rows, columns, get(r, whole, stacked * rows * columns, sizeof(REAL)), NULL};
    r->matrices[r->n_matrices] = out;
    r->stacked[r->n_matrices++] = stacked;
}

static int64_t irreps(Reader *r, const char *name, Irrep *out, int64_t *more)
{
    char whole[64];
    const int64_t n = ALL(name, int64_t) / 4;
    if (n < 0 || n > IRREPS) { snprintf(r->arrays->problem, 256, "%s has %lld irreps", whole, (long long)n); return 0; }
    const int64_t *found = INTEGERS(name, 4 * n);
    for (int64_t k = 0; found && k < n; k++) {
        out[k] = (Irrep){found[4 * k], found[4 * k + 1], found[4 * k + 2]};
        if (more) more[k] = found[4 * k + 3];
    }
    return found ? n : 0;
}

static void messages(Reader *r, const char *name, const Layer *layer, Messages *out)
{
    char whole[64], before[32];
    memcpy(before, r->at, sizeof before);
    snprintf(r->at, sizeof r->at, "%.20s%s.", before, name);
    out->n_paths = ALL("paths", Path);
    out->n_couplings = ALL("couplings", Coupling);
    out->n_targets = ALL("target_width", int32_t);
    fields(r, "n_k", &out->n_k, 1);
    out->paths = get(r, "paths", out->n_paths, sizeof(Path));
    out->couplings = get(r, "couplings", out->n_couplings, sizeof(Coupling));
    out->first_coupling = INTEGERS("first_coupling", N_Y(r->model) + 1);
    out->source_width = get(r, "source_width", layer->n_in, sizeof(int32_t));
    out->target_width = get(r, "target_width", out->n_targets, sizeof(int32_t));
    out->target_channels = get(r, "target_channels", out->n_targets, sizeof(int32_t));
    memcpy(r->at, before, sizeof before);
}

static void terms(Reader *r, const char *name, Terms *out)
{
    char whole[64], before[32];
    memcpy(before, r->at, sizeof before);
    snprintf(r->at, sizeof r->at, "%.20s%s.", before, name);
    out->n_rows = ALL("g_at", Place);
    out->g_at = get(r, "g_at", out->n_rows, sizeof(Place));
    out->terms = get(r, "terms", ALL("terms", Term), sizeof(Term));
    out->first_term = get(r, "first_term", out->n_rows + 1, sizeof(int32_t));
    memcpy(r->at, before, sizeof before);
}

static void product(Reader *r, Layer *layer, int64_t o)
{
    char whole[64], before[32];
    Order *order = layer->order + o;
    memcpy(before, r->at, sizeof before);
    snprintf(r->at, sizeof r->at, "%.20sorder%d.", before, (int)o);
    order->n_left = ALL("left", int64_t);
    order->n_right = ALL("right", int64_t);
    if (order->n_left > IRREPS || order->n_right > IRREPS) { snprintf(r->arrays->problem, 256, "%s: too many irreps", r->at); return; }
    order->left = INTEGERS("left", order->n_left);
    order->right = INTEGERS("right", order->n_right);
    order->n_targets = irreps(r, "target", order->target, NULL);
    fields(r, "channels", &order->channels, 1);
    order->n_x = ALL("x_at", Place);
    order->n_y = ALL("y_at", Place);
    order->x_at = get(r, "x_at", order->n_x, sizeof(Place));
    order->y_at = get(r, "y_at", order->n_y, sizeof(Place));
    terms(r, "forward", &order->forward);
    terms(r, "backward", &order->backward);
    for (int64_t f = 0; o && order->left && f < order->n_left; f++)
        matrix(r, "from_before", f, layer->order[o - 1].target[order->left[f]].c, order->channels, r->model->trunks, order->from_before + f);
    memcpy(r->at, before, sizeof before);
}

static void readouts(Reader *r, Layer *layer)
{
    static const char *names[READ] = {"vector", "tensor"};
    const Model *model = r->model;
    const int64_t scalars = layer->out[layer->scalar].c, t = model->trunks;
    char name[40];
    matrix(r, "hidden", -1, scalars, HIDDEN, t, &layer->hidden);
    matrix(r, "read_out", -1, HIDDEN, model->columns, t, &layer->read_out);
    layer->energy = get(r, "energy", t * model->energies * HIDDEN, sizeof(REAL));
    fields(r, "read_from", layer->read_from, READ);
    for (int q = 0; q < READ; q++) {
        if (layer->read_from[q] < 0) continue;
        snprintf(name, sizeof name, "%s.gates", names[q]);
        matrix(r, name, -1, scalars, GATED, t, layer->gates + q);
        snprintf(name, sizeof name, "%s.gated", names[q]);
        matrix(r, name, -1, layer->out[layer->read_from[q]].c, GATED, t, layer->gated + q);
        matrix(r, names[q], -1, GATED, model->read_columns[q], t, layer->read + q);
    }
}

static void layer_of(Reader *r, int64_t i)
{
    char whole[64];
    int64_t up[IRREPS], n_parts[IRREPS], q = 0;
    const int64_t t = r->model->trunks;
    Layer *layer = r->model->layer + i;
    snprintf(r->at, sizeof r->at, "%lld.", (long long)i);
    layer->n_in = irreps(r, "in", layer->in, up);
    layer->n_sum = irreps(r, "sum", layer->sum, layer->collected);
    layer->n_out = irreps(r, "out", layer->out, n_parts);
    layer->n_factor = ALL("factor", int64_t);
    fields(r, "scalar", &layer->scalar, 1);
    fields(r, "radial_width", &layer->radial_width, 1);
    fields(r, "orders", &layer->n_order, 1);
    layer->factor = INTEGERS("factor", layer->n_factor);
    if (*r->arrays->problem || layer->n_factor > IRREPS || layer->n_order > ORDERS) return;
    for (int64_t s = 0; s < layer->n_in; s++) matrix(r, "up", s, layer->in[s].c, up[s], t, layer->up + s);
    for (int64_t s = 0; s < layer->n_sum; s++) matrix(r, "down", s, layer->collected[s], layer->sum[s].c, t, layer->down + s);
    messages(r, "forward", layer, &layer->forward);
    messages(r, "backward", layer, &layer->backward);
    for (layer->couples_as = 0; layer->couples_as < i; layer->couples_as++) {
        const Messages *mine = &layer->forward, *other = &r->model->layer[layer->couples_as].forward;
        if (mine->n_k == other->n_k && mine->n_couplings == other->n_couplings &&
            !memcmp(mine->couplings, other->couplings, mine->n_couplings * sizeof(Coupling))) break;
    }
    for (int64_t o = 0; o < layer->n_order; o++) product(r, layer, o);
    for (int64_t f = 0; f < layer->n_factor; f++)
        matrix(r, "into_factor", f, layer->sum[layer->factor[f]].c, layer->order[0].channels, t, layer->into_factor + f);
    const int64_t *parts = INTEGERS("parts", ALL("parts", int64_t));
    for (int64_t o = 0; parts && o < layer->n_out; o++) {
        int64_t rows = 0;
        layer->first_part[o] = q;
        for (int64_t k = 0; k < n_parts[o]; k++, q++) {
            layer->part[q] = (Part){parts[3 * q], parts[3 * q + 1], parts[3 * q + 2], rows};
            rows += parts[3 * q + 2];
        }
        layer->first_part[o + 1] = q;
        matrix(r, "mix", o, rows, layer->out[o].c, t * r->model->species, layer->mix + o);
    }
    layer->table = get(r, "table", t * (r->model->knots + 4) * layer->radial_width, sizeof(REAL));
    readouts(r, layer);
}

static int transpose_all(Reader *r)
{
    int64_t size = 0;
    for (int64_t k = 0; k < r->n_matrices; k++) size += r->stacked[k] * r->matrices[k]->rows * r->matrices[k]->columns;
    REAL *at = r->model->block = malloc((size + 1) * sizeof(REAL));
    if (!at) return 1;
    for (int64_t k = 0; k < r->n_matrices; k++) {
        Matrix *m = r->matrices[k];
        m->transposed = at;
        for (int64_t s = 0; s < r->stacked[k]; s++, at += m->rows * m->columns)
            for (int64_t row = 0; row < m->rows; row++)
                for (int64_t c = 0; c < m->columns; c++) at[c * m->rows + row] = m->w[(s * m->rows + row) * m->columns + c];
    }
    return 0;
}

void NAME(free_model)(Model *model)
{
    if (model) free(model->block);
    free(model);
}

/* The block must stay where it is as long as the model. NULL where something is missing: `problem` (256 characters) says what. */
Model *NAME(load_model)(const char *block, char *problem)
{
    const Arrays arrays = {block, problem};
    Reader *r = calloc(1, sizeof(Reader));
    Model *model = calloc(1, sizeof(Model));
    problem[0] = 0;
    if (!r || !model) { snprintf(problem, 256, "no memory"); free(r); free(model); return NULL; }
    r->arrays = &arrays;
    r->model = model;
    if (memcmp(block, "racecalc", 8)) snprintf(problem, 256, "it does not begin as a model does");
    int64_t sizes[11] = {0};
    if (!*problem) fields(r, "sizes", sizes, 11);
    model->trunks = sizes[0], model->last = sizes[1], model->energies = sizes[2], model->species = sizes[3], model->layers = sizes[4];
    model->l_max = sizes[5], model->channels = sizes[6], model->knots = sizes[7], model->columns = sizes[8];
    model->read_columns[0] = sizes[9], model->read_columns[1] = sizes[10];
    const double *constants = get(r, "constants", 2, sizeof(double));
    if (constants) model->cutoff = constants[0], model->softening = constants[1];
    model->energy_column = INTEGERS("energy_column", model->last);
    model->scale = get(r, "scale", model->last, sizeof(double));
    model->variance_column = INTEGERS("variance_column", model->last);
    model->trace_column = INTEGERS("trace_column", model->last);
    model->tensor_column = INTEGERS("tensor_column", model->last);
    model->variance_offset = get(r, "variance_offset", model->trunks * model->last, sizeof(double));
    model->trace_offset = get(r, "trace_offset", model->trunks * model->last, sizeof(double));
    model->traceless = get(r, "traceless", 45, sizeof(double));
    model->embedding = get(r, "embedding", model->trunks * model->species * model->channels, sizeof(REAL));
    model->n_harmonics = race_array_bytes(&arrays, "harmonic_value") / (int64_t)sizeof(double);
    model->harmonic = INTEGERS("harmonic", 3 * model->n_harmonics);
    model->harmonic_value = get(r, "harmonic_value", model->n_harmonics, sizeof(double));
    if (model->layers < 1 || model->layers > LAYERS) snprintf(problem, 256, "a model has 1 to %d layers, not %lld", LAYERS, (long long)model->layers);
    for (int64_t i = 0; !*problem && i < model->layers; i++) layer_of(r, i);
    if (!*problem && transpose_all(r)) snprintf(problem, 256, "no memory");
    free(r);
    if (!*problem) return model;
    NAME(free_model)(model);
    return NULL;
}
