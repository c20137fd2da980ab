/* From vectors to distances, spherical harmonics and places on the radial tables; and back from their gradients to forces.
 *
 * Y of degree l + 1 is made of Y of degree l and Y_1 = √3 (x, y, z) by Clebsch-Gordan coefficients, as in angular.py. float64.
 */
#include <math.h>
#include "step.h"

#define MOST_Y 16 /* l <= 3 */

static void harmonics(const Model *model, const double *unit, double *y)
{
    const double root = sqrt(3.0);
    memset(y, 0, N_Y(model) * sizeof(double));
    y[0] = 1;
    for (int64_t q = 0; q < model->n_harmonics; q++) {
        const int64_t *t = model->harmonic + 3 * q;
        y[t[2]] += model->harmonic_value[q] * y[t[0]] * root * unit[t[1]];
    }
}

/* the gradient of Σ d_y Y to the vector; the harmonics are those of a direction, so nothing points along it */
static void harmonics_back(const Model *model, const double *unit, double distance, const double *y, double *d_y, double *gradient)
{
    const double root = sqrt(3.0);
    double d[3] = {0, 0, 0};
    for (int64_t q = model->n_harmonics - 1; q >= 0; q--) {
        const int64_t *t = model->harmonic + 3 * q;
        const double g = model->harmonic_value[q] * root * d_y[t[2]];
        d_y[t[0]] += g * unit[t[1]];
        d[t[1]] += g * y[t[0]];
    }
    const double along = d[0] * unit[0] + d[1] * unit[1] + d[2] * unit[2];
    for (int x = 0; x < 3; x++) gradient[x] = (d[x] - along * unit[x]) / distance;
}

/* of the edges of atoms from..to; of a pair by its first edge */
void NAME(place_edges)(const Model *model, const Call *call, Geometry *geometry, int64_t from, int64_t to)
{
    const int64_t n_y = N_Y(model);
    const double scale = (model->knots - 1) / log1p(model->cutoff / model->softening);
    double y[MOST_Y];
    for (int64_t e = call->first[from]; e < call->first[to]; e++) {
        const double *r = call->vectors + 3 * e;
        const double distance = sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
        for (int x = 0; x < 3; x++) geometry->unit[3 * e + x] = r[x] / distance;
        geometry->distance[e] = distance;
        harmonics(model, geometry->unit + 3 * e, y);
        for (int64_t k = 0; k < n_y; k++) geometry->y[e * n_y + k] = (REAL)y[k];
        for (int64_t i = 0; i < model->layers; i++) {
            const Messages *m = &model->layer[i].forward;
            if (geometry->coupled[i] && model->layer[i].couples_as == i)
                NAME(couple)(m->couplings, m->n_couplings, m->n_k, geometry->y + e * n_y, geometry->coupled[i] + e * m->n_k);
        }
        if (geometry->first_of_pair[call->pair[e]] == e) {
            const int inside = distance < model->cutoff;
            geometry->place[call->pair[e]] = inside ? scale * log1p(distance / model->softening) : model->knots - 1;
            geometry->slope[call->pair[e]] = inside ? scale / (distance + model->softening) : 0;
        }
    }
}

/* d_y and d_place of own edges → forces on all atoms and the virial of every structure */
void NAME(finish_forces)(Work *work)
{
    const Model *model = work->model;
    const Call *call = work->call;
    const Geometry *g = &work->geometry;
    const int64_t n_y = N_Y(model);
    double y[MOST_Y], d_y[MOST_Y], pair[3];
    memset(work->own->forces, 0, call->rows * call->atoms * 3 * sizeof(double));
    memset(work->own->virial, 0, call->rows * call->structures * 9 * sizeof(double));
    for (int64_t i = work->from; i < work->to; i++)
        for (int64_t e = call->first[i]; e < call->first[i + 1]; e++) {
            const int64_t p = call->pair[e], j = call->neighbour[e];
            harmonics(model, g->unit + 3 * e, y);
            for (int64_t row = 0; row < call->rows; row++) {
                for (int64_t k = 0; k < n_y; k++) d_y[k] = work->trunk->d_y[(row * call->edges + e) * n_y + k];
                harmonics_back(model, g->unit + 3 * e, g->distance[e], y, d_y, pair);
                if (g->first_of_pair[p] == e) {
                    double radial = 0; /* the pair's two edges may be those of two threads */
                    for (int64_t q = 0; q < work->team.parts; q++) radial += work->others[q].d_place[row * call->pairs + p];
                    for (int x = 0; x < 3; x++) pair[x] += radial * g->slope[p] * g->unit[3 * e + x];
                }
                double *force = work->own->forces + row * call->atoms * 3;
                double *virial = work->own->virial + (row * call->structures + call->batch[i]) * 9;
                for (int x = 0; x < 3; x++) {
                    force[3 * i + x] += pair[x];
                    force[3 * j + x] -= pair[x];
                    for (int z = 0; z < 3; z++) virial[3 * x + z] += 0.5 * (call->vectors[3 * e + x] * pair[z] + call->vectors[3 * e + z] * pair[x]);
                }
            }
        }
}
