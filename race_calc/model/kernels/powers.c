/* The products of the sums of a few atoms, forward and backward: products.py in C, with the kernels of products.c. */
#include "step.h"

/* the products of the sums of a few atoms */
void NAME(powers_forward)(Work *work, int64_t i, int64_t from, int64_t count)
{
    const Layer *layer = work->model->layer + i;
    Own *own = work->own;
    const int64_t t = work->t;
    const REAL *factor[IRREPS], *left[IRREPS], *right[IRREPS];
    for (int64_t f = 0; f < layer->n_factor; f++) {
        const Matrix *into = layer->into_factor + f;
        const int64_t s = layer->factor[f], k = layer->sum[s].k;
        NAME(forwards)(into, t, (Rows){own->sum[s], from, into->rows, work->trunk->factor[i][f], 0, into->columns}, k, from, from + count, 0);
        factor[f] = work->trunk->factor[i][f] + from * k * into->columns;
    }
    for (int64_t o = 0; o < layer->n_order; o++) {
        const Order *order = layer->order + o;
        for (int64_t f = 0; f < order->n_right; f++) right[f] = factor[order->right[f]];
        for (int64_t f = 0; o && f < order->n_left; f++) {
            const Matrix *into = order->from_before + f;
            const int64_t k = layer->order[o - 1].target[order->left[f]].k;
            NAME(forwards)(into, t, (Rows){own->power[o - 1][order->left[f]], from, into->rows, work->trunk->left[i][f], 0, into->columns}, k, from,
                     from + count, 0);
            left[f] = work->trunk->left[i][f] + from * k * into->columns;
        }
        const Product task = {
            .atoms = count, .channels = order->channels, .same = !o, .n_x = order->n_x, .n_y = order->n_y, .n_rows = order->forward.n_rows,
            .x_at = order->x_at, .y_at = order->y_at, .g_at = order->forward.g_at, .terms = order->forward.terms,
            .first_term = order->forward.first_term, .x = o ? left : right, .y = right, .g = own->power[o],
        };
        NAME(multiply)(&task, 0, 1, 0, count);
    }
}

/* d_power → d_sum, by the products */
void NAME(powers_backward)(Work *work, int64_t i, int64_t row, int64_t from, int64_t count)
{
    const Layer *layer = work->model->layer + i;
    Own *own = work->own;
    const int64_t t = work->t;
    const REAL *left[IRREPS], *right[IRREPS];
    REAL *g[IRREPS], *d_left[IRREPS], *d_right[IRREPS];
    for (int64_t f = 0; f < layer->n_factor; f++)
        memset(own->d_factor[f], 0, count * layer->sum[layer->factor[f]].k * layer->into_factor[f].columns * sizeof(REAL));
    for (int64_t o = layer->n_order - 1; o >= 0; o--) {
        const Order *order = layer->order + o;
        int64_t live = 0;
        for (int64_t f = 0; f < order->n_targets; f++)
            if (order->target[f].live) g[live++] = own->d_power[o][f] + row * count * order->target[f].k * order->target[f].c;
        if (!live) continue;
        for (int64_t f = 0; f < order->n_right; f++) {
            const int64_t k = layer->sum[layer->factor[order->right[f]]].k;
            right[f] = work->trunk->factor[i][order->right[f]] + from * k * order->channels;
            d_right[f] = own->d_right[f];
        }
        for (int64_t f = 0; o && f < order->n_left; f++) {
            const int64_t k = layer->order[o - 1].target[order->left[f]].k;
            left[f] = work->trunk->left[i][f] + from * k * order->channels;
            d_left[f] = own->d_left[f];
        }
        const Product task = {
            .atoms = count, .channels = order->channels, .same = !o, .n_x = order->n_x, .n_y = order->n_y,
            .n_rows = order->backward.n_rows, .x_at = order->x_at, .y_at = order->y_at, .g_at = order->backward.g_at,
            .terms = order->backward.terms, .first_term = order->backward.first_term, .x = o ? left : right, .y = right, .g = g,
            .d_x = o ? d_left : d_right, .d_y = d_right,
        };
        NAME(multiply_backward)(&task, 0, 1, 0, count);
        for (int64_t f = 0; f < order->n_right; f++) {
            const int64_t size = count * layer->sum[layer->factor[order->right[f]]].k * order->channels;
            REAL *restrict sum = own->d_factor[order->right[f]];
            for (int64_t q = 0; q < size; q++) sum[q] += d_right[f][q];
        }
        for (int64_t f = 0; o && f < order->n_left; f++) {
            const Matrix *into = order->from_before + f;
            const Irrep *before = layer->order[o - 1].target + order->left[f];
            if (before->live)
                NAME(backwards)(into, t, (Rows){d_left[f], from, into->columns,
                                          own->d_power[o - 1][order->left[f]] + row * count * before->k * before->c, from, into->rows},
                          before->k, from, from + count, 1);
        }
    }
    for (int64_t f = 0; f < layer->n_factor; f++) {
        const Matrix *into = layer->into_factor + f;
        const Irrep *sum = layer->sum + layer->factor[f];
        if (sum->live)
            NAME(backwards)(into, t, (Rows){own->d_factor[f], from, into->columns, own->d_sum[layer->factor[f]] + row * count * sum->k * sum->c, from,
                                      into->rows}, sum->k, from, from + count, 1);
    }
}
