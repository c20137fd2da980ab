/* The step layer by layer, on one thread, where atoms behind the own ones are copies of atoms elsewhere: the engine brings what they have.
 *
 * What goes from rank to rank is u, which messages are made of, before each layer but the first, and d_u on the way back. Both are
 * packed atom by atom: (rows,) irreps, each (2 l + 1, channels).
 */
#include "step.h"

typedef struct { Geometry geometry; Trunk trunk; Own own; Work work; } Stages;

static Stages *take_stages(Arena *arena, const Model *model, const Call *call)
{
    Stages *s = NAME(take)(arena, 1, sizeof(Stages)), counted = {.work = {0}}, *at = arena->block ? s : &counted;
    if (arena->block) *s = counted; /* what is not taken is NULL */
    NAME(take_geometry)(arena, model, call, &at->geometry);
    NAME(take_trunk)(arena, model, call, &at->trunk);
    NAME(take_own)(arena, model, call, &at->own);
    return s;
}

int64_t NAME(stages_bytes)(const Model *model, const Call *call)
{
    Arena arena = {NULL, 0};
    take_stages(&arena, model, call);
    return (int64_t)arena.used;
}

/* `space`: at a multiple of 64. `owned`: the first atoms, which have pairs; call->first ends with theirs. */
void *NAME(stages_begin)(const Model *model, const Call *call, int64_t owned, char *space)
{
    Arena arena = {space, 0};
    Stages *s = take_stages(&arena, model, call);
    for (int64_t e = call->edges - 1; e >= 0; e--) s->geometry.first_of_pair[call->pair[e]] = e;
    s->work = (Work){model, call, s->geometry, &s->trunk, &s->own, &s->own, {0, 1, NULL, NULL}, 0, 0, owned};
    NAME(place_edges)(model, call, &s->work.geometry, 0, owned);
    return s;
}

int NAME(stages_forward)(Stages *s, int64_t t, int64_t i)
{
    Work *work = &s->work;
    const int64_t layers = work->model->layers;
    work->t = t;
    if (!i) {
        NAME(embed)(work, 0, work->call->atoms);
        NAME(layer_up)(work, 0, 0, work->call->atoms);
    }
    const int failed = NAME(pass_forward)(work, i);
    if (i + 1 < layers) NAME(layer_up)(work, i + 1, 0, work->to);
    else NAME(heads)(work);
    return failed;
}

int NAME(stages_backward)(Stages *s, int64_t i)
{
    Work *work = &s->work;
    const Call *call = work->call;
    if (i == work->model->layers - 1) NAME(pass_begins_back)(work);
    else NAME(layer_down)(work, i + 1);
    const int failed = NAME(pass_backward)(work, i);
    if (i) return failed;
    NAME(finish_forces)(work);
    memcpy(call->forces + work->t * call->rows * call->atoms * 3, s->own.forces, call->rows * call->atoms * 3 * sizeof(double));
    memcpy(call->virial + work->t * call->rows * call->structures * 9, s->own.virial, call->rows * call->structures * 9 * sizeof(double));
    return failed;
}

/* numbers of an atom that go from rank to rank before layer i; times the rows on the way back */
int64_t NAME(stages_width)(const Model *model, int64_t i)
{
    int64_t width = 0;
    for (int64_t s = 0; s < model->layer[i].n_in; s++) width += model->layer[i].in[s].k * model->layer[i].up[s].columns;
    return width;
}

/* between `count` atoms of the list and a buffer; `back`: d_u, else u */
void NAME(stages_move)(Stages *s, int64_t i, int back, int how, int64_t count, const int64_t *atoms, double *buffer)
{
    const Layer *layer = s->work.model->layer + i;
    const int64_t all = s->work.call->atoms, rows = back ? s->work.call->rows : 1;
    for (int64_t q = 0; q < count; q++)
        for (int64_t row = 0; row < rows; row++)
            for (int64_t p = 0; p < layer->n_in; p++) {
                const int64_t width = layer->in[p].k * layer->up[p].columns;
                REAL *at = (back ? s->own.d_u[p] : s->trunk.u[i][p]) + (row * all + atoms[q]) * width;
                for (int64_t c = 0; c < width; c++, buffer++) {
                    if (how == PACK) *buffer = at[c];
                    else if (how == PUT) at[c] = (REAL)*buffer;
                    else at[c] += (REAL)*buffer;
                }
            }
}
