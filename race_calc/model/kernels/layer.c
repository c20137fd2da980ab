/* One layer of one trunk: forward, atom block by atom block, and backward; the names are those of interaction.py and products.py. */
#include "step.h"

static Task task_of(const Work *work, int64_t i, const Messages *messages, const REAL *const *u, REAL *const *g, int64_t from,
                    int64_t count)
{
    const Model *model = work->model;
    const Call *call = work->call;
    const Layer *layer = model->layer + i;
    return (Task){
        .members = call->rows, .atoms = call->atoms, .edges = call->edges, .pairs = call->pairs,
        .n_paths = messages->n_paths, .n_couplings = messages->n_couplings, .n_k = messages->n_k,
        .n_y = N_Y(model), .n_targets = messages->n_targets, .radial_width = layer->radial_width,
        .rows = model->knots + 4, .one_trunk = 1, .g_atoms = count, .g_from = from,
        .paths = messages->paths, .couplings = messages->couplings, .first_coupling = messages->first_coupling,
        .first = call->first, .neighbour = call->neighbour, .pair = call->pair, .first_of_pair = work->geometry.first_of_pair,
        .source_width = messages->source_width, .target_width = messages->target_width, .target_channels = messages->target_channels,
        .y = work->geometry.y, .table = layer->table + work->t * (model->knots + 4) * layer->radial_width,
        .place = work->geometry.place, .coupled = work->geometry.coupled[i], .kept = work->own->kept[i], .u = u, .g = g,
    };
}

/* what the parts of an output are, or their gradients: `count` atoms from `from` on, or all atoms */
typedef struct { REAL *at; int64_t from; } Array;

static Array part_of(Work *work, const Layer *layer, int64_t i, const Part *part, int64_t row, int64_t from, int64_t count, int backward)
{
    Own *own = work->own;
    const int64_t all = work->call->atoms;
    if (part->kind == SUM)
        return (Array){backward ? own->d_sum[part->index] + row * count * layer->sum[part->index].k * part->width : own->sum[part->index], from};
    if (part->kind == SKIP)
        return (Array){backward ? work->trunk->d_h[i % 2][part->index] + row * all * layer->in[part->index].k * part->width
                                : work->trunk->h[i][part->index], 0};
    const int64_t o = part->kind - POWER, k = layer->order[o].target[part->index].k;
    return (Array){backward ? own->d_power[o][part->index] + row * count * k * part->width : own->power[o][part->index], from};
}

/* is anything to be done for the gradient of this part? */
static int matters(const Layer *layer, int64_t i, const Part *part)
{
    if (part->kind == SUM) return layer->sum[part->index].live != 0;
    if (part->kind == SKIP) return i > 0 && layer->in[part->index].live;
    return layer->order[part->kind - POWER].target[part->index].live != 0;
}

/* radial weights of the pairs of own atoms */
static void keep_radial(Work *work, int64_t i)
{
    const Call *call = work->call;
    const int64_t width = work->model->layer[i].radial_width, rows = work->model->knots + 4;
    const int64_t first = call->first[work->from], stop = call->first[work->to];
    const REAL *table = work->model->layer[i].table + work->t * rows * width;
    for (int64_t e = first; e < stop; e++) {
        const int64_t pair = call->pair[e], before = work->geometry.first_of_pair[pair];
        if (before != e && before >= first) continue; /* done with the other edge of the pair */
        REAL *at = work->own->kept[i] + pair * 2 * width;
        if (e + 1 < stop) NAME(ask_for)(table, rows, width, work->geometry.place[call->pair[e + 1]]);
        NAME(look_up)(table, rows, width, work->geometry.place[pair], at, at + width);
    }
}

/* u of atoms from..to, radial weights of the pairs of own atoms */
void NAME(layer_up)(Work *work, int64_t i, int64_t from, int64_t to)
{
    const Layer *layer = work->model->layer + i;
    if (work->own->kept[i]) keep_radial(work, i);
    for (int64_t s = 0; s < layer->n_in; s++) {
        const Matrix *up = layer->up + s;
        NAME(forwards)(up, work->t, (Rows){work->trunk->h[i][s], 0, up->rows, work->trunk->u[i][s], 0, up->columns}, layer->in[s].k, from, to,
                 0);
    }
}

int NAME(layer_forward)(Work *work, int64_t i, int64_t from, int64_t to)
{
    const Layer *layer = work->model->layer + i;
    Own *own = work->own;
    const int64_t t = work->t, count = to - from;
    const REAL *u[IRREPS];
    for (int64_t s = 0; s < layer->n_in; s++) u[s] = work->trunk->u[i][s];
    const Task task = task_of(work, i, &layer->forward, u, own->collected, from, count);
    if (NAME(forward)(&task, 0, 1, from, to)) return 1;
    for (int64_t s = 0; s < layer->n_sum; s++)
        NAME(forwards)(layer->down + s, t, (Rows){own->collected[s], from, layer->collected[s], own->sum[s], from, layer->sum[s].c},
                 layer->sum[s].k, from, to, 0);
    NAME(powers_forward)(work, i, from, count);
    for (int64_t o = 0; o < layer->n_out; o++) {
        const Matrix *mix = layer->mix + o;
        for (int64_t q = layer->first_part[o]; q < layer->first_part[o + 1]; q++) {
            const Part *part = layer->part + q;
            const Array in = part_of(work, layer, i, part, 0, from, count, 0);
            for (int64_t z = 0; z < work->model->species; z++)
                NAME(times)((Rows){in.at, in.from, part->width, work->trunk->h[i + 1][o], 0, mix->columns}, layer->out[o].k, own->by_species,
                            own->first_of_species[z], own->first_of_species[z + 1],
                            WEIGHT(mix, t * work->model->species + z) + part->from * mix->columns, mix->columns, part->width, mix->columns,
                            q > layer->first_part[o]);
        }
    }
    return 0;
}

/* from d_h of what leaves to d_u, d_y and d_place, and what the skip connection gives to d_h of what comes in */
int NAME(layer_backward)(Work *work, int64_t i, int64_t from, int64_t to)
{
    const Model *model = work->model;
    const Layer *layer = model->layer + i;
    Own *own = work->own;
    const int64_t t = work->t, count = to - from, all = work->call->atoms;
    const REAL *u[IRREPS];
    REAL *g[IRREPS];
    int64_t live = 0;
    for (int64_t s = 0; s < layer->n_sum; s++) {
        memset(own->d_sum[s], 0, work->call->rows * count * layer->sum[s].k * layer->sum[s].c * sizeof(REAL));
        if (layer->sum[s].live) g[live++] = own->d_collected[s];
    }
    for (int64_t o = 0; o < layer->n_order; o++)
        for (int64_t f = 0; f < layer->order[o].n_targets; f++)
            memset(own->d_power[o][f], 0, work->call->rows * count * layer->order[o].target[f].k * layer->order[o].target[f].c * sizeof(REAL));
    for (int64_t row = 0; row < work->call->rows; row++) {
        for (int64_t o = 0; o < layer->n_out; o++) {
            const Matrix *mix = layer->mix + o;
            for (int64_t q = layer->first_part[o]; layer->out[o].live && q < layer->first_part[o + 1]; q++) {
                const Part *part = layer->part + q;
                if (!matters(layer, i, part)) continue;
                const Array to_part = part_of(work, layer, i, part, row, from, count, 1);
                const REAL *d_out = work->trunk->d_h[(i + 1) % 2][o] + row * all * layer->out[o].k * mix->columns;
                for (int64_t z = 0; z < model->species; z++)
                    NAME(times)((Rows){d_out, 0, mix->columns, to_part.at, to_part.from, part->width}, layer->out[o].k, own->by_species,
                                own->first_of_species[z], own->first_of_species[z + 1],
                                TRANSPOSED(mix, t * model->species + z) + part->from, mix->rows, mix->columns, part->width, 1);
            }
        }
        NAME(powers_backward)(work, i, row, from, count);
        for (int64_t s = 0; s < layer->n_sum; s++)
            if (layer->sum[s].live)
                NAME(backwards)(layer->down + s, t,
                          (Rows){own->d_sum[s] + row * count * layer->sum[s].k * layer->sum[s].c, from, layer->sum[s].c,
                                 own->d_collected[s] + row * count * layer->sum[s].k * layer->collected[s], from, layer->collected[s]},
                          layer->sum[s].k, from, to, 0);
    }
    if (!live) return 0;
    for (int64_t s = 0; s < layer->n_in; s++) u[s] = work->trunk->u[i][s];
    Task task = task_of(work, i, &layer->backward, u, g, from, count);
    task.d_y = work->trunk->d_y;
    task.d_place = own->d_place;
    task.d_u = own->d_u;
    return NAME(backward)(&task, 0, work->call->rows, from, to);
}

/* d_u of all threads → d_h of what comes in */
void NAME(layer_down)(Work *work, int64_t i)
{
    const Layer *layer = work->model->layer + i;
    const int64_t all = work->call->atoms;
    for (int64_t s = 0; s < layer->n_in; s++)
        for (int64_t row = 0; layer->in[s].live && row < work->call->rows; row++) {
            const Matrix *up = layer->up + s;
            REAL *d_h = work->trunk->d_h[i % 2][s] + row * all * layer->in[s].k * up->rows;
            REAL *restrict sum = work->own->d_u[s] + row * all * layer->in[s].k * up->columns; /* of own atoms: nobody else reads it */
            const int64_t width = layer->in[s].k * up->columns;
            for (int64_t q = 0; q < work->team.parts; q++) {
                const REAL *restrict more = work->others[q].d_u[s] + row * all * width;
                for (int64_t k = work->from * width; q != work->team.part && k < work->to * width; k++) sum[k] += more[k];
            }
            NAME(backwards)(up, work->t, (Rows){sum, 0, up->columns, d_h, 0, up->rows}, layer->in[s].k, work->from, work->to, 1);
        }
}
