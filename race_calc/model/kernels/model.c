/* A Model from the arrays that model_arrays.py writes. */
#include <stdio.h>
#include "reader.h"

#define INDICES(name, count, low, high) NAME(indices)(r, name, count, low, high)
#define ENTRIES(name, Type) NAME(entries)(r, name, sizeof(Type))

/* what follows has names that begin with this */
#define INSIDE(r, ...) char before[32]; memcpy(before, (r)->at, sizeof before); snprintf((r)->at, sizeof (r)->at, __VA_ARGS__)
#define OUTSIDE(r) memcpy((r)->at, before, sizeof before)

static void messages(Reader *r, const char *name, const Layer *layer, int live, Messages *out)
{
    INSIDE(r, "%.20s%s.", before, name);
    out->n_paths = ENTRIES("paths", Path);
    out->n_couplings = ENTRIES("couplings", Coupling);
    out->n_targets = ENTRIES("target_width", int32_t);
    NAME(fields)(r, "n_k", &out->n_k, 1, 0, MOST_WIDE);
    out->paths = NAME(get)(r, "paths", out->n_paths, sizeof(Path));
    out->couplings = NAME(get)(r, "couplings", out->n_couplings, sizeof(Coupling));
    out->first_coupling = INDICES("first_coupling", N_Y(r->model) + 1, 0, out->n_couplings + 1);
    out->source_width = NAME(get)(r, "source_width", layer->n_in, sizeof(int32_t));
    out->target_width = NAME(get)(r, "target_width", out->n_targets, sizeof(int32_t));
    out->target_channels = NAME(get)(r, "target_channels", out->n_targets, sizeof(int32_t));
    if (!PROBLEM(r)) NAME(check_messages)(r, layer, out, live);
    OUTSIDE(r);
}

static void terms(Reader *r, const char *name, Terms *out)
{
    INSIDE(r, "%.20s%s.", before, name);
    out->n_rows = ENTRIES("g_at", Place);
    out->n_terms = ENTRIES("terms", Term);
    out->g_at = NAME(get)(r, "g_at", out->n_rows, sizeof(Place));
    out->terms = NAME(get)(r, "terms", out->n_terms, sizeof(Term));
    out->first_term = NAME(get)(r, "first_term", out->n_rows + 1, sizeof(int32_t));
    OUTSIDE(r);
}

static void product(Reader *r, Layer *layer, int64_t o)
{
    Order *order = layer->order + o;
    INSIDE(r, "%.20sorder%d.", before, (int)o);
    order->n_left = ENTRIES("left", int64_t);
    order->n_right = ENTRIES("right", int64_t);
    NAME(expect)(r, order->n_left <= IRREPS && order->n_right <= IRREPS, "left");
    order->left = INDICES("left", order->n_left, 0, o ? layer->order[o - 1].n_targets : IRREPS);
    order->right = INDICES("right", order->n_right, 0, layer->n_factor);
    order->n_targets = NAME(irreps)(r, "target", order->target, NULL);
    NAME(fields)(r, "channels", &order->channels, 1, 1, MOST_WIDE);
    order->n_x = ENTRIES("x_at", Place);
    order->n_y = ENTRIES("y_at", Place);
    order->x_at = NAME(get)(r, "x_at", order->n_x, sizeof(Place));
    order->y_at = NAME(get)(r, "y_at", order->n_y, sizeof(Place));
    terms(r, "forward", &order->forward);
    terms(r, "backward", &order->backward);
    for (int64_t f = 0; o && !PROBLEM(r) && f < order->n_left; f++)
        NAME(matrix)(r, "from_before", f, layer->order[o - 1].target[order->left[f]].c, order->channels, r->model->trunks, order->from_before + f);
    if (!PROBLEM(r)) NAME(check_product)(r, layer, o);
    OUTSIDE(r);
}

static void readouts(Reader *r, Layer *layer)
{
    static const char *names[READ] = {"vector", "tensor"};
    const Model *model = r->model;
    const int64_t scalars = layer->out[layer->scalar].c, t = model->trunks;
    char name[40];
    NAME(matrix)(r, "hidden", -1, scalars, HIDDEN, t, &layer->hidden);
    NAME(matrix)(r, "read_out", -1, HIDDEN, model->columns, t, &layer->read_out);
    layer->energy = NAME(get)(r, "energy", t * model->energies * HIDDEN, sizeof(REAL));
    NAME(fields)(r, "read_from", layer->read_from, READ, -1, layer->n_out);
    for (int q = 0; !PROBLEM(r) && q < READ; q++) {
        if (layer->read_from[q] < 0 || !NAME(expect)(r, layer->out[layer->read_from[q]].k == 3 + 2 * q, "read_from")) continue;
        snprintf(name, sizeof name, "%s.gates", names[q]);
        NAME(matrix)(r, name, -1, scalars, GATED, t, layer->gates + q);
        snprintf(name, sizeof name, "%s.gated", names[q]);
        NAME(matrix)(r, name, -1, layer->out[layer->read_from[q]].c, GATED, t, layer->gated + q);
        NAME(matrix)(r, names[q], -1, GATED, model->read_columns[q], t, layer->read + q);
    }
}

/* what makes each output, and the matrices of every species */
static void parts_of(Reader *r, Layer *layer, const int64_t *n_parts)
{
    int64_t q = 0, all = 0;
    for (int64_t o = 0; o < layer->n_out; o++) all += n_parts[o];
    if (!NAME(expect)(r, all <= IRREPS * (2 + ORDERS), "parts")) return;
    const int64_t *parts = INDICES("parts", 3 * all, 0, MOST_WIDE);
    for (int64_t o = 0; parts && o < layer->n_out; o++) {
        int64_t rows = 0;
        layer->first_part[o] = q;
        for (int64_t k = 0; k < n_parts[o]; k++, q++) {
            layer->part[q] = (Part){parts[3 * q], parts[3 * q + 1], parts[3 * q + 2], rows};
            rows += parts[3 * q + 2];
        }
        layer->first_part[o + 1] = q;
        NAME(matrix)(r, "mix", o, rows, layer->out[o].c, r->model->trunks * r->model->species, layer->mix + o);
    }
    if (!PROBLEM(r)) NAME(check_parts)(r, layer);
}

static void layer_of(Reader *r, int64_t i)
{
    int64_t up[IRREPS], n_parts[IRREPS];
    const int64_t t = r->model->trunks;
    Layer *layer = r->model->layer + i;
    snprintf(r->at, sizeof r->at, "%lld.", (long long)i);
    layer->n_in = NAME(irreps)(r, "in", layer->in, up);
    layer->n_sum = NAME(irreps)(r, "sum", layer->sum, layer->collected);
    layer->n_out = NAME(irreps)(r, "out", layer->out, n_parts);
    layer->n_factor = ENTRIES("factor", int64_t);
    NAME(expect)(r, layer->n_factor <= IRREPS, "factor");
    NAME(fields)(r, "scalar", &layer->scalar, 1, 0, layer->n_out);
    NAME(fields)(r, "radial_width", &layer->radial_width, 1, 1, MOST_WIDE);
    NAME(fields)(r, "orders", &layer->n_order, 1, 0, ORDERS + 1);
    layer->factor = INDICES("factor", layer->n_factor, 0, layer->n_sum);
    const Layer *before = layer - 1;
    int joined = i ? layer->n_in == before->n_out : layer->n_in == 1 && layer->in[0].k == 1 && layer->in[0].c == r->model->channels;
    for (int64_t s = 0; i && joined && s < layer->n_in; s++) joined = layer->in[s].k == before->out[s].k && layer->in[s].c == before->out[s].c;
    if (!NAME(expect)(r, joined && layer->out[layer->scalar].k == 1, "in")) return;
    for (int64_t s = 0; s < layer->n_in; s++) NAME(matrix)(r, "up", s, layer->in[s].c, up[s], t, layer->up + s);
    for (int64_t s = 0; s < layer->n_sum; s++) NAME(matrix)(r, "down", s, layer->collected[s], layer->sum[s].c, t, layer->down + s);
    messages(r, "forward", layer, 0, &layer->forward);
    messages(r, "backward", layer, 1, &layer->backward);
    NAME(expect)(r, layer->backward.n_k == layer->forward.n_k, "backward.n_k");
    for (layer->couples_as = 0; !PROBLEM(r) && layer->couples_as < i; layer->couples_as++) {
        const Messages *mine = &layer->forward, *other = &r->model->layer[layer->couples_as].forward;
        if (mine->n_k == other->n_k && mine->n_couplings == other->n_couplings &&
            !memcmp(mine->couplings, other->couplings, mine->n_couplings * sizeof(Coupling))) break;
    }
    for (int64_t o = 0; !PROBLEM(r) && o < layer->n_order; o++) product(r, layer, o);
    for (int64_t f = 0; !PROBLEM(r) && f < layer->n_factor; f++)
        NAME(matrix)(r, "into_factor", f, layer->sum[layer->factor[f]].c, layer->order[0].channels, t, layer->into_factor + f);
    if (!PROBLEM(r)) parts_of(r, layer, n_parts);
    layer->table = NAME(get)(r, "table", t * (r->model->knots + 4) * layer->radial_width, sizeof(REAL));
    if (!PROBLEM(r)) readouts(r, layer);
}

static void heads_of(Reader *r)
{
    Model *model = r->model;
    model->energy_column = INDICES("energy_column", model->last, 0, model->columns);
    model->scale = NAME(get)(r, "scale", model->last, sizeof(double));
    model->variance_column = INDICES("variance_column", model->last, -1, model->columns);
    model->trace_column = INDICES("trace_column", model->last, -1, model->columns);
    model->tensor_column = INDICES("tensor_column", model->last, -1, model->read_columns[READ - 1]);
    for (int64_t q = 0; !PROBLEM(r) && q < model->last; q++)
        NAME(expect)(r, (model->trace_column[q] < 0) == (model->trace_column[0] < 0) &&
                     (model->trace_column[q] < 0 || model->tensor_column[q] >= 0), "trace_column");
    model->variance_offset = NAME(get)(r, "variance_offset", model->trunks * model->last, sizeof(double));
    model->trace_offset = NAME(get)(r, "trace_offset", model->trunks * model->last, sizeof(double));
    model->traceless = NAME(get)(r, "traceless", 45, sizeof(double));
}

static void whole_model(Reader *r)
{
    Model *model = r->model;
    int64_t sizes[11] = {0};
    NAME(fields)(r, "sizes", sizes, 11, 0, 1 << 20);
    model->trunks = sizes[0], model->last = sizes[1], model->energies = sizes[2], model->species = sizes[3], model->layers = sizes[4];
    model->l_max = sizes[5], model->channels = sizes[6], model->knots = sizes[7], model->columns = sizes[8];
    model->read_columns[0] = sizes[9], model->read_columns[1] = sizes[10];
    for (int k = 0; k < 11; k++) NAME(expect)(r, (k > 8 || k == 5 || sizes[k] > 0) && (k == 7 || sizes[k] < MOST_WIDE), "sizes");
    NAME(expect)(r, model->trunks < 4096 && model->species < 128 && model->layers <= LAYERS && model->l_max <= 3 && model->knots > 2 &&
                 model->energies >= model->last, "sizes");
    const double *constants = NAME(get)(r, "constants", 2, sizeof(double));
    if (constants) model->cutoff = constants[0], model->softening = constants[1];
    if (!PROBLEM(r)) heads_of(r);
    model->embedding = NAME(get)(r, "embedding", model->trunks * model->species * model->channels, sizeof(REAL));
    model->n_harmonics = ENTRIES("harmonic_value", double);
    model->harmonic = INDICES("harmonic", 3 * model->n_harmonics, 0, N_Y(model));
    for (int64_t q = 0; model->harmonic && q < model->n_harmonics; q++) NAME(expect)(r, model->harmonic[3 * q + 1] < 3, "harmonic");
    model->harmonic_value = NAME(get)(r, "harmonic_value", model->n_harmonics, sizeof(double));
    for (int64_t i = 0; !PROBLEM(r) && i < model->layers; i++) layer_of(r, i);
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
    whole_model(r);
    if (!*problem && transpose_all(r)) snprintf(problem, 256, "no memory");
    free(r);
    if (!*problem) return model;
    NAME(free_model)(model);
    return NULL;
}
