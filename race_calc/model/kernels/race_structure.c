#include "race_structure.h"
#include <math.h>
#include <stdio.h>

/* species of the atoms; the number of each undirected pair, by the order of their first edges, one with a ghost for itself; how many */
race_status race_number(const race_info *info, const race_structure *s, int64_t *species, int64_t *pair, int64_t *pairs, char *message)
{
    for (int64_t i = 0; i < s->atoms; i++) {
        int64_t z = 0;
        while (z < info->n_elements && info->elements[z] != s->numbers[i]) z++;
        if (z == info->n_elements) {
            snprintf(message, RACE_MESSAGE, "atom %lld has atomic number %lld, which the model does not know", (long long)i, (long long)s->numbers[i]);
            return RACE_ELEMENT;
        }
        species[i] = z;
    }
    const int64_t own = s->atoms - s->ghosts;
    int64_t n = 0;
    for (int64_t e = 0; e < s->first[own]; e++) pair[e] = -1;
    for (int64_t i = 0; i < own; i++)
        for (int64_t e = s->first[i]; e < s->first[i + 1]; e++) {
            const int64_t j = s->neighbour[e];
            const double *r = s->vectors + 3 * e;
            if (j < 0 || j >= s->atoms) return race_fail(RACE_PAIRS, message, "a neighbour is not among the atoms");
            if (!(r[0] * r[0] + r[1] * r[1] + r[2] * r[2] > 1e-6)) return race_fail(RACE_GEOMETRY, message, "two atoms lie on one place, or a vector is no number");
            if (j >= own) pair[e] = n++;
            for (int64_t f = j < own ? s->first[j] : 0; pair[e] < 0 && f < s->first[j + 1]; f++) {
                const double *q = s->vectors + 3 * f;
                if (f != e && pair[f] < 0 && s->neighbour[f] == i && fabs(r[0] + q[0]) + fabs(r[1] + q[1]) + fabs(r[2] + q[2]) < 1e-6)
                    pair[e] = pair[f] = n++;
            }
            if (pair[e] < 0) {
                snprintf(message, RACE_MESSAGE, "the pair of atoms %lld and %lld is there in one direction only", (long long)i, (long long)j);
                return RACE_PAIRS;
            }
        }
    *pairs = n;
    return RACE_OK;
}

/* screened repulsion of nuclei (repulsion.py), added to every row; half of each directed pair */
void race_repel(const Repulsion *known, const race_structure *s, const int64_t *species, double *energy, double *forces, double *virial)
{
    for (int64_t i = 0; known->pairs && i < s->atoms - s->ghosts; i++)
        for (int64_t e = s->first[i]; e < s->first[i + 1]; e++) {
            const double *v = s->vectors + 3 * e, *c = known->pairs + 3 * (species[i] * known->elements + species[s->neighbour[e]]);
            const double r = sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]), x = r / c[2];
            if (x >= 1) continue;
            double screen = 0, slope = 0;
            for (int k = 0; k < 4; k++) {
                const double wave = known->waves[k] * exp(-known->waves[4 + k] * r / c[1]);
                screen += wave;
                slope -= wave * known->waves[4 + k] / c[1];
            }
            const double u = 1 - 6 * x * x + 8 * x * x * x - 3 * x * x * x * x, du = -12 * x * (1 - x) * (1 - x) / c[2], bare = c[0] / r;
            energy[i] += 0.5 * bare * screen * u;
            const double half = 0.5 * bare * (slope * u + screen * du - screen * u / r) / r;
            for (int a = 0; a < 3; a++) {
                forces[3 * i + a] += half * v[a];
                forces[3 * s->neighbour[e] + a] -= half * v[a];
                for (int b = 0; b < 3; b++) virial[3 * a + b] += half * v[a] * v[b];
            }
        }
}
