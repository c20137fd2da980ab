/* A layer of one trunk for all own atoms, a few at a time: forward with what is read from it, and backward. */
#include "step.h"

void NAME(sort_species)(Work *work, int64_t from, int64_t to)
{
    Own *own = work->own;
    int64_t at = 0;
    for (int64_t z = 0; z < work->model->species; z++) {
        own->first_of_species[z] = at;
        for (int64_t a = from; a < to; a++)
            if (work->call->species[a] == z) own->by_species[at++] = a;
    }
    own->first_of_species[work->model->species] = at;
}

#define BLOCKS(work, from, stop) \
    for (int64_t from = (work)->from, stop; from < (work)->to && (stop = from + ATOMS_AT_ONCE < (work)->to ? from + ATOMS_AT_ONCE : (work)->to, 1); from = stop)

/* what comes into the first layer, of atoms from..to */
void NAME(embed)(Work *work, int64_t from, int64_t to)
{
    const Model *model = work->model;
    const int64_t c = model->channels;
    for (int64_t a = from; a < to; a++)
        memcpy(work->trunk->h[0][0] + a * c, model->embedding + (work->t * model->species + work->call->species[a]) * c, c * sizeof(REAL));
}

/* u of the neighbours is there */
int NAME(pass_forward)(Work *work, int64_t i)
{
    int failed = 0;
    BLOCKS(work, from, stop) {
        NAME(sort_species)(work, from, stop);
        failed |= NAME(layer_forward)(work, i, from, stop);
        NAME(readout_forward)(work, i, from, stop);
    }
    return failed;
}

static void clear(REAL *at, int64_t rows, int64_t all, int64_t width, int64_t from, int64_t to)
{
    for (int64_t row = 0; row < rows; row++) memset(at + (row * all + from) * width, 0, (to - from) * width * sizeof(REAL));
}

/* before the last layer */
void NAME(pass_begins_back)(Work *work)
{
    const Model *model = work->model;
    const Call *call = work->call;
    const int64_t last = model->layers - 1;
    clear(work->trunk->d_y, call->rows, call->edges, N_Y(model), call->first[work->from], call->first[work->to]);
    memset(work->own->d_place, 0, call->rows * call->pairs * sizeof(double));
    for (int64_t o = 0; o < model->layer[last].n_out; o++)
        clear(work->trunk->d_h[(last + 1) % 2][o], call->rows, call->atoms, model->layer[last].out[o].k * model->layer[last].out[o].c, work->from,
              work->to);
}

/* d_h of what leaves the layer is there; what it gives to d_u is that of own atoms and their neighbours */
int NAME(pass_backward)(Work *work, int64_t i)
{
    const Layer *layer = work->model->layer + i;
    const int64_t rows = work->call->rows, all = work->call->atoms;
    int failed = 0;
    for (int64_t s = 0; s < layer->n_in; s++) {
        clear(work->trunk->d_h[i % 2][s], rows, all, layer->in[s].k * layer->in[s].c, work->from, work->to);
        memset(work->own->d_u[s], 0, rows * all * layer->in[s].k * layer->up[s].columns * sizeof(REAL));
    }
    BLOCKS(work, from, stop) {
        NAME(sort_species)(work, from, stop);
        NAME(readout_backward)(work, i, from, stop);
        failed |= NAME(layer_backward)(work, i, from, stop);
    }
    return failed;
}
