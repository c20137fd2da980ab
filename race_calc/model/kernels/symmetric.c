/* exp of symmetric matrices, by Jacobi's rotations (Golub & Van Loan, Matrix Computations, section 8.5): for many small ones. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define MOST 6
#define SWEEPS 30
#define LARGEST 13.815510557964274 /* as in symmetric.py */

/* turns the rows and columns p and q so that a[p][q] becomes zero; the axes are the rows of v */
static void rotate(double a[MOST][MOST], double v[MOST][MOST], int n, int p, int q)
{
    const double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
    const double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1)), c = 1 / sqrt(t * t + 1), s = t * c;
    for (int k = 0; k < n; k++) {
        const double x = a[k][p], y = a[k][q];
        a[k][p] = c * x - s * y, a[k][q] = s * x + c * y;
    }
    for (int k = 0; k < n; k++) {
        const double x = a[p][k], y = a[q][k], vx = v[p][k], vy = v[q][k];
        a[p][k] = c * x - s * y, a[q][k] = s * x + c * y;
        v[p][k] = c * vx - s * vy, v[q][k] = s * vx + c * vy;
    }
    a[p][q] = a[q][p] = 0;
}

static int diagonalise(double a[MOST][MOST], double v[MOST][MOST], int n)
{
    double largest = 0, size = 0;
    int broken = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            v[i][j] = i == j;
            broken |= !isfinite(a[i][j]);
            if (fabs(a[i][j]) > largest) largest = fabs(a[i][j]);
        }
    if (broken) return 1;
    for (int i = 0; largest && i < n; i++)
        for (int j = 0; j < n; j++) size += (a[i][j] / largest) * (a[i][j] / largest);
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        double off = 0;
        for (int p = 0; p < n; p++)
            for (int q = p + 1; q < n; q++) off += (a[p][q] / largest) * (a[p][q] / largest);
        if (!largest || off <= 1e-34 * size) return 0;
        for (int p = 0; p < n; p++)
            for (int q = p + 1; q < n; q++)
                if (a[p][q] != 0) rotate(a, v, n, p, q);
    }
    return 0;
}

/* (count, n, n) → (count, n, n), n <= 6, of eigenvalues up to exp(LARGEST); NaN where an entry is not finite */
void symmetric_exponential(int64_t count, int64_t n, const double *in, double *out)
{
    for (int64_t m = 0; m < count; m++, in += n * n, out += n * n) {
        double a[MOST][MOST], v[MOST][MOST], e[MOST];
        for (int i = 0; i < n; i++) memcpy(a[i], in + i * n, n * sizeof(double));
        const int broken = diagonalise(a, v, (int)n);
        for (int i = 0; i < n; i++) e[i] = broken ? NAN : exp(fmin(a[i][i], LARGEST));
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                double sum = 0;
                for (int k = 0; k < n; k++) sum += v[k][i] * e[k] * v[k][j];
                out[i * n + j] = sum;
            }
    }
}
