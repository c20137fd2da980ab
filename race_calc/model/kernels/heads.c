/* What the outputs of the head are made of (heads.py): variances of energies, logarithms of force covariances. Own atoms of a trunk. */
#include <math.h>
#include "step.h"

static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

/* σ² of every atom: softplus(mean over layers + offset) */
static void variances(const Work *work)
{
    const Model *model = work->model;
    const Call *call = work->call;
    for (int64_t a = work->from; a < work->to; a++) {
        const double *mean = call->scalars + (work->t * call->atoms + a) * model->columns;
        double *out = call->atom_variance + (work->t * call->atoms + a) * model->last;
        for (int64_t q = 0; q < model->last; q++)
            if (model->variance_column[q] >= 0) out[q] = softplus(mean[model->variance_column[q]] + model->variance_offset[work->t * model->last + q]);
    }
}

/* S = (trace part + offset) · 1 + the traceless part of the 2e */
static void log_covariances(const Work *work)
{
    const Model *model = work->model;
    const Call *call = work->call;
    const int64_t width = model->read_columns[READ - 1];
    for (int64_t a = work->from; a < work->to; a++) {
        const double *mean = call->scalars + (work->t * call->atoms + a) * model->columns;
        const double *tensor = call->read[READ - 1] + (work->t * call->atoms + a) * 5 * width;
        for (int64_t q = 0; q < model->last; q++) {
            if (model->trace_column[q] < 0) continue;
            double *s = call->log_covariance + ((work->t * model->last + q) * call->atoms + a) * 9;
            const double trace = mean[model->trace_column[q]] + model->trace_offset[work->t * model->last + q];
            for (int x = 0; x < 9; x++) {
                s[x] = x % 4 ? 0 : trace;
                for (int m = 0; m < 5; m++) s[x] += tensor[m * width + model->tensor_column[q]] * model->traceless[9 * m + x];
            }
        }
    }
}

void NAME(heads)(const Work *work)
{
    if (work->call->atom_variance) variances(work);
    if (work->call->log_covariance) log_covariances(work);
}
