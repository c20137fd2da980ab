/* Memory of a call: counted first, with a block at NULL, then handed out. */
#include "step.h"

void *NAME(take)(Arena *arena, int64_t count, size_t size)
{
    void *found = arena->block ? arena->block + arena->used : NULL;
    arena->used += ((size_t)count * size + 63) / 64 * 64 + 64;
    return found;
}

#define REALS(count) NAME(take)(arena, count, sizeof(REAL))
#define DOUBLES(count) NAME(take)(arena, count, sizeof(double))

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

void NAME(take_geometry)(Arena *arena, const Model *model, const Call *call, Geometry *g)
{
    g->y = REALS(call->edges * N_Y(model));
    g->unit = DOUBLES(call->edges * 3);
    g->distance = DOUBLES(call->edges);
    g->place = DOUBLES(call->pairs);
    g->slope = DOUBLES(call->pairs);
    g->first_of_pair = NAME(take)(arena, call->pairs, sizeof(int64_t));
    for (int64_t i = 0; i < model->layers; i++) {
        const int64_t size = call->edges * model->layer[i].forward.n_k, as = model->layer[i].couples_as;
        g->coupled[i] = as < i ? g->coupled[as] : size * (int64_t)sizeof(REAL) > call->most_kept ? NULL : REALS(size);
    }
}

void NAME(take_trunk)(Arena *arena, const Model *model, const Call *call, Trunk *trunk)
{
    const int64_t n = call->atoms;
    int64_t d_h[2][IRREPS] = {{0}};
    for (int64_t i = 0; i < model->layers; i++) {
        const Layer *layer = model->layer + i;
        for (int64_t s = 0; s < layer->n_in; s++) {
            const int64_t size = n * layer->in[s].k * layer->in[s].c;
            if (!i) trunk->h[0][s] = REALS(size);
            trunk->u[i][s] = REALS(n * layer->in[s].k * layer->up[s].columns);
            d_h[i % 2][s] = most(d_h[i % 2][s], size);
        }
        for (int64_t f = 0; f < layer->n_factor; f++)
            trunk->factor[i][f] = REALS(n * layer->sum[layer->factor[f]].k * layer->into_factor[f].columns);
        if (layer->n_order > 1)
            for (int64_t f = 0; f < layer->order[1].n_left; f++)
                trunk->left[i][f] = REALS(n * layer->order[0].target[layer->order[1].left[f]].k * layer->order[1].channels);
        for (int64_t o = 0; o < layer->n_out; o++) {
            const int64_t size = n * layer->out[o].k * layer->out[o].c;
            trunk->h[i + 1][o] = REALS(size);
            d_h[(i + 1) % 2][o] = most(d_h[(i + 1) % 2][o], size);
        }
        trunk->hidden[i] = REALS(n * HIDDEN);
    }
    for (int q = 0; q < 2; q++)
        for (int s = 0; s < IRREPS; s++) trunk->d_h[q][s] = REALS(call->rows * d_h[q][s]);
    trunk->d_y = REALS(call->rows * call->edges * N_Y(model));
}

/* of a few atoms, for the layer that needs most */
void NAME(take_own)(Arena *arena, const Model *model, const Call *call, Own *own)
{
    const int64_t n = call->atoms < ATOMS_AT_ONCE ? call->atoms : ATOMS_AT_ONCE, rows = call->rows;
    int64_t collected[IRREPS] = {0}, sum[IRREPS] = {0}, power[ORDERS][IRREPS] = {{0}}, factor[IRREPS] = {0}, left[IRREPS] = {0}, u[IRREPS] = {0};
    for (int64_t i = 0; i < model->layers; i++) {
        const Layer *layer = model->layer + i;
        for (int64_t s = 0; s < layer->n_sum; s++) {
            collected[s] = most(collected[s], layer->sum[s].k * layer->collected[s]);
            sum[s] = most(sum[s], layer->sum[s].k * layer->sum[s].c);
        }
        for (int64_t f = 0; f < layer->n_factor; f++)
            factor[f] = most(factor[f], layer->sum[layer->factor[f]].k * layer->into_factor[f].columns);
        for (int64_t o = 0; o < layer->n_order; o++)
            for (int64_t f = 0; f < layer->order[o].n_targets; f++)
                power[o][f] = most(power[o][f], layer->order[o].target[f].k * layer->order[o].target[f].c);
        for (int64_t f = 0; layer->n_order > 1 && f < layer->order[1].n_left; f++)
            left[f] = most(left[f], layer->order[0].target[layer->order[1].left[f]].k * layer->order[1].channels);
        for (int64_t s = 0; s < layer->n_in; s++) u[s] = most(u[s], layer->in[s].k * layer->up[s].columns);
    }
    int64_t largest = 0;
    for (int s = 0; s < IRREPS; s++) largest = most(largest, factor[s]);
    for (int o = 0; o < ORDERS; o++)
        for (int s = 0; s < IRREPS; s++) left[s] = most(left[s], most(power[o][s], largest));
    for (int s = 0; s < IRREPS; s++) {
        own->collected[s] = REALS(n * collected[s]);
        own->sum[s] = REALS(n * sum[s]);
        own->d_collected[s] = REALS(rows * n * collected[s]);
        own->d_sum[s] = REALS(rows * n * sum[s]);
        own->d_factor[s] = REALS(n * factor[s]);
        own->d_left[s] = REALS(n * left[s]);
        own->d_right[s] = REALS(n * left[s]);
        own->d_u[s] = REALS(rows * call->atoms * u[s]);
        for (int o = 0; o < ORDERS; o++) {
            own->power[o][s] = REALS(n * power[o][s]);
            own->d_power[o][s] = REALS(rows * n * power[o][s]);
        }
    }
    int64_t width = model->columns;
    for (int r = 0; r < READ; r++) width = most(width, 5 * model->read_columns[r]);
    int64_t kept = 0;
    for (int64_t i = 0; i < model->layers; i++) {
        kept += call->pairs * 2 * model->layer[i].radial_width;
        if (kept * (int64_t)sizeof(REAL) <= call->most_kept) own->kept[i] = REALS(call->pairs * 2 * model->layer[i].radial_width);
    }
    own->read = REALS(n * width);
    own->activated = REALS(n * HIDDEN);
    own->gate = REALS(n * GATED);
    own->inner = REALS(n * 5 * GATED);
    own->d_hidden = REALS(n * HIDDEN);
    own->d_place = DOUBLES(rows * call->pairs);
    own->forces = DOUBLES(rows * call->atoms * 3);
    own->virial = DOUBLES(rows * call->structures * 9);
    own->by_species = NAME(take)(arena, n, sizeof(int64_t));
    own->first_of_species = NAME(take)(arena, model->species + 1, sizeof(int64_t));
}
