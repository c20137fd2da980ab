/* What is read from a layer: scalars through SiLU, 1o and 2e through gates; and the gradient of the energies to the layer's scalars. */
#include "step.h"

#define GAIN ((REAL)1.6791767923989418) /* SILU_GAIN of radial.py */

/* e^x of every lane, to rounding: 2^n times the series of the rest, whose size is below log(2) / 2 */
typedef __typeof__((vec){0} < (vec){0}) whole; /* integers as wide as REAL */

INLINE vec exponential(vec x)
{
    const int is_double = sizeof(REAL) == 8;
    const REAL most = is_double ? 700 : 87, magic = is_double ? (REAL)6755399441055744.0 : (REAL)12582912.0;
    const vec big = (vec){0} + most;
    x = (vec)(((whole)x & ~(whole)(x > big)) | ((whole)big & (whole)(x > big)));
    x = (vec)(((whole)x & ~(whole)(x < -big)) | ((whole)-big & (whole)(x < -big)));
    const vec shifted = x * (REAL)1.4426950408889634 + magic, n = shifted - magic;
    const vec r = (x - n * (is_double ? (REAL)0.693147180369123816490 : (REAL)0.693359375)) -
                  n * (is_double ? (REAL)1.90821492927058770002e-10 : (REAL)-2.12194440e-4);
    vec sum = (vec){0} + 1;
    for (int k = is_double ? 13 : 7; k > 0; k--) sum = 1 + r * sum * (1 / (REAL)k);
    return (vec)((whole)sum + ((whole)shifted << (is_double ? 52 : 23)));
}

#define SIGMOID(x) (1 / (1 + exponential(-(x))))

/* GAIN · SiLU of `count` numbers */
static void silu(const REAL *x, REAL *out, int64_t count)
{
    for (int64_t q = 0; q < count; q += LANES) {
        const int n = count - q < LANES ? (int)(count - q) : LANES;
        const vec v = load(x + q, n);
        store(out + q, GAIN * v * SIGMOID(v), n);
    }
}

static void apply(const Matrix *m, int64_t t, const REAL *in, int64_t in_from, REAL *out, int64_t from, int64_t to, int64_t k)
{
    NAME(forwards)(m, t, (Rows){in, in_from, m->rows, out, from, m->columns}, k, from, to, 0);
}

void NAME(readout_forward)(Work *work, int64_t i, int64_t from, int64_t to)
{
    const Model *model = work->model;
    const Call *call = work->call;
    const Layer *layer = model->layer + i;
    Own *own = work->own;
    const int64_t t = work->t, count = to - from, all = call->atoms, columns = model->columns;
    const double part = 1.0 / (double)model->layers;
    const REAL *scalars = work->trunk->h[i + 1][layer->scalar];
    REAL *hidden = work->trunk->hidden[i] + from * HIDDEN;
    apply(&layer->hidden, t, scalars, 0, hidden, from, to, 1);
    silu(hidden, own->activated, count * HIDDEN);
    apply(&layer->read_out, t, own->activated, from, own->read, from, to, 1);
    for (int64_t a = 0; a < count; a++) {
        double *energy = call->atom_energy + (t * all + from + a) * model->last;
        for (int64_t q = 0; q < model->last; q++) energy[q] += model->scale[q] * own->read[a * columns + model->energy_column[q]];
        double *mean = call->scalars + (t * all + from + a) * columns;
        for (int64_t c = 0; call->scalars && c < columns; c++) mean[c] += part * own->read[a * columns + c];
    }
    if (call->features && !t)
        for (int64_t a = 0; a < count; a++)
            for (int64_t c = 0; c < HIDDEN; c++)
                call->features[((from + a) * model->layers + i) * HIDDEN + c] = (REAL)(model->scale[0] / 8) * own->activated[a * HIDDEN + c];
    for (int r = 0; r < READ; r++) {
        if (!call->read[r] || layer->read_from[r] < 0) continue;
        const int64_t o = layer->read_from[r], k = layer->out[o].k, width = model->read_columns[r];
        apply(layer->gates + r, t, scalars, 0, own->gate, from, to, 1);
        silu(own->gate, own->gate, count * GATED);
        apply(layer->gated + r, t, work->trunk->h[i + 1][o], 0, own->inner, from, to, k);
        for (int64_t a = 0; a < count * k; a++)
            for (int64_t c = 0; c < GATED; c++) own->inner[a * GATED + c] *= own->gate[a / k * GATED + c];
        apply(layer->read + r, t, own->inner, from, own->read, from, to, k);
        double *mean = call->read[r] + (t * all + from) * k * width;
        for (int64_t q = 0; q < count * k * width; q++) mean[q] += part * own->read[q];
    }
}

/* adds to d_h of the layer's scalars */
void NAME(readout_backward)(Work *work, int64_t i, int64_t from, int64_t to)
{
    const Model *model = work->model;
    const Layer *layer = model->layer + i;
    const int64_t t = work->t, count = to - from;
    for (int64_t row = 0; row < work->call->rows; row++) {
        const REAL *energy = layer->energy + (t * model->energies + work->call->row[row]) * HIDDEN;
        for (int64_t a = 0; a < count; a++)
            for (int64_t c = 0; c < HIDDEN; c += LANES) {
                const vec x = load(work->trunk->hidden[i] + (from + a) * HIDDEN + c, LANES), s = SIGMOID(x);
                store(work->own->d_hidden + a * HIDDEN + c, GAIN * load(energy + c, LANES) * s * (1 + x * (1 - s)), LANES);
            }
        const Matrix *m = &layer->hidden;
        REAL *d_h = work->trunk->d_h[(i + 1) % 2][layer->scalar] + row * work->call->atoms * m->rows;
        NAME(backwards)(m, t, (Rows){work->own->d_hidden, from, HIDDEN, d_h, 0, m->rows}, 1, from, to, 1);
    }
}
