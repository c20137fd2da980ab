/* What members say together, and its calibration, as race_calc/uncertainty has them: aggregate.py, shape_size.py, energy_size.py. */
#include <math.h>
#include <string.h>
#include "race_model.h"

#define TURNS 12 /* of Jacobi's method; five do for three axes */
#define LARGEST 13.815510557964274 /* as in symmetric.py */

static double mean_variance(const double *covariance) { return (covariance[0] + covariance[4] + covariance[8]) / 3; }

/* eigenvalues (3,) and, in columns, eigenvectors (3, 3) of a symmetric matrix, by Jacobi's rotations */
static void axes(const double *matrix, double *values, double *columns)
{
    double a[9];
    for (int k = 0; k < 9; k++) a[k] = 0.5 * (matrix[k] + matrix[k % 3 * 3 + k / 3]), columns[k] = k % 4 == 0;
    for (int turn = 0; turn < TURNS; turn++)
        for (int p = 0; p < 2; p++)
            for (int q = p + 1; q < 3; q++) {
                if (a[3 * p + q] == 0) continue;
                const double theta = 0.5 * (a[4 * q] - a[4 * p]) / a[3 * p + q];
                const double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1)), c = 1 / sqrt(t * t + 1), s = t * c;
                for (int k = 0; k < 3; k++) {
                    const double x = a[3 * k + p], y = a[3 * k + q], u = columns[3 * k + p], v = columns[3 * k + q];
                    a[3 * k + p] = c * x - s * y, a[3 * k + q] = s * x + c * y;
                    columns[3 * k + p] = c * u - s * v, columns[3 * k + q] = s * u + c * v;
                }
                for (int k = 0; k < 3; k++) {
                    const double x = a[3 * p + k], y = a[3 * q + k];
                    a[3 * p + k] = c * x - s * y, a[3 * q + k] = s * x + c * y;
                }
            }
    for (int k = 0; k < 3; k++) values[k] = a[4 * k];
}

static void add_matrix(const double *values, const double *columns, double factor, double *matrix)
{
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++)
            for (int k = 0; k < 3; k++) matrix[3 * a + b] += factor * values[k] * columns[3 * a + k] * columns[3 * b + k];
}

void race_spread(const race_model *m, int64_t count, int64_t stride, const double *forces, const double *log_covariances, double *between,
                 double *predicted)
{
    const int64_t members = m->info.members;
    const double *noise = m->calibration.noise;
    memset(between, 0, 9 * count * sizeof(double));
    memset(predicted, 0, 9 * count * sizeof(double));
    for (int64_t i = 0; i < count; i++) {
        double mean[3] = {0};
        for (int64_t k = 0; k < members; k++)
            for (int a = 0; a < 3; a++) mean[a] += forces[3 * (k * stride + i) + a] / (double)members;
        for (int64_t k = 0; k < members; k++) {
            const double *force = forces + 3 * (k * stride + i);
            for (int a = 0; a < 3; a++)
                for (int b = 0; b < 3; b++) between[9 * i + 3 * a + b] += (force[a] - mean[a]) * (force[b] - mean[b]) / (double)members;
        }
        for (int a = 0; noise && a < 3; a++) predicted[9 * i + 4 * a] = noise[1];
        for (int64_t k = 0; !noise && log_covariances && k < members; k++) {
            double values[3], columns[9];
            axes(log_covariances + 9 * (k * stride + i), values, columns);
            for (int a = 0; a < 3; a++) values[a] = exp(values[a] > LARGEST ? LARGEST : values[a]);
            add_matrix(values, columns, 1 / (double)members, predicted + 9 * i);
        }
    }
}

void race_nearby(const race_model *m, const race_structure *s, const double *values, double *nearby)
{
    const double reach = m->info.cutoff, pi = acos(-1.0);
    for (int64_t i = 0; i < s->atoms - s->ghosts; i++) {
        double sum = values[i], weights = 1;
        for (int64_t e = s->first[i]; e < s->first[i + 1]; e++) {
            const double *v = s->vectors + 3 * e, r = sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
            if (r >= reach) continue;
            const double weight = 0.5 * (1 + cos(pi * r / reach));
            sum += weight * values[s->neighbour[e]];
            weights += weight;
        }
        nearby[i] = sum / weights;
    }
}

/* size times shape, of trace 3 */
static void shape_size(const Calibration *known, int64_t species, const double *between, const double *predicted, double nearby, double *total)
{
    const double scale = known->form[0], power = known->form[1], own = known->form[2], floor = known->form[3], degree = known->form[4];
    const double e = fmax(mean_variance(between), 0);
    double values[3], columns[9], size = scale * known->of_element[species] * pow(e + floor, own) * pow(nearby + floor, degree - own);
    axes(predicted ? predicted : between, values, columns);
    for (int k = 0; k < 3; k++) values[k] = fmax(values[k], 0);
    if (predicted) {
        const double largest = fmax(values[0], fmax(values[1], values[2]));
        size *= pow(mean_variance(predicted), 1 - own);
        double mean = 0;
        for (int k = 0; k < 3; k++) mean += (values[k] = pow(values[k] / largest, power)) / 3;
        for (int k = 0; k < 3; k++) values[k] /= mean;
    } else for (int k = 0; k < 3; k++) values[k] = 1 - power + power * (e > 0 ? values[k] / e : 1);
    memset(total, 0, 9 * sizeof(double));
    add_matrix(values, columns, size, total);
}

void race_covariance(const race_model *m, int calibrated, int64_t count, const int64_t *numbers, const double *between, const double *predicted,
                     const double *nearby, double *total)
{
    const Calibration *known = &m->calibration;
    const int has_predicted = m->info.has_covariance || known->noise, shaped = calibrated && known->form && m->info.members > 1;
    const double factor = calibrated && known->force ? known->force[0] : 1;
    for (int64_t i = 0; i < count; i++) {
        int64_t species = 0;
        while (species < m->info.n_elements - 1 && m->info.elements[species] != numbers[i]) species++;
        const int64_t at = 9 * i;
        if (shaped) shape_size(known, species, between + at, has_predicted ? predicted + at : NULL, nearby[i], total + at);
        else for (int k = 0; k < 9; k++) total[at + k] = factor * (between[at + k] + predicted[at + k]);
    }
}

void race_principal(int64_t count, const double *covariances, double *std)
{
    for (int64_t i = 0; i < count; i++) {
        double values[3], columns[9];
        axes(covariances + 9 * i, values, columns);
        std[i] = sqrt(fmax(fmax(values[0], values[1]), fmax(values[2], 0)));
        for (int k = 0; k < 9; k++)
            if (!isfinite(covariances[9 * i + k])) std[i] = NAN;
    }
}

double race_energy_around(const race_model *m, int64_t count, const double *between, const double *nearby)
{
    const double *source = m->calibration.sources ? m->calibration.sources + 3 : NULL;
    double sum = 0;
    for (int64_t i = 0; source && source[0] > 0 && i < count; i++)
        sum += (mean_variance(between + 9 * i) + source[2]) * pow(nearby[i] + source[2], source[1] - 1);
    return sum;
}

double race_energy_variance(const race_model *m, int calibrated, int64_t atoms, const double *energies, const double *variances,
                            const double *features, double around)
{
    const Calibration *known = &m->calibration;
    const int64_t members = m->info.members, length = m->info.features;
    const double n = (double)atoms;
    double mean = 0, between = 0, predicted = 0;
    for (int64_t k = 0; k < members; k++) mean += energies[k] / (double)members;
    for (int64_t k = 0; k < members; k++) between += (energies[k] - mean) * (energies[k] - mean) / (double)members;
    if (known->last_layer) { /* in closed form */
        between = 0;
        for (int64_t a = 0; a < length; a++)
            for (int64_t b = 0; b < length; b++) between += features[a] * known->last_layer[a * length + b] * features[b];
    }
    if (known->noise) predicted = known->noise[0] * n;
    else for (int64_t k = 0; variances && m->info.has_variance && k < members; k++) predicted += variances[k] / (double)members;
    if (!calibrated || !known->energy) return between + predicted;
    const double *of_energies = known->sources;
    if (!of_energies || members == 1) return known->energy[0] * between + known->energy[1] * predicted;
    const double from_energies = of_energies[0] * n * pow(between / n + of_energies[2], of_energies[1]);
    return of_energies[3] > 0 ? 0.5 * (from_energies + of_energies[3] * around) : from_energies;
}
