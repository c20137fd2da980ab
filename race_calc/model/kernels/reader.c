#include "reader.h"
#include <stdio.h>

static void whole_name(const Reader *r, const char *name, char *whole) { snprintf(whole, 80, "%s%.40s", r->at, name); }

int64_t NAME(entries)(Reader *r, const char *name, int64_t size)
{
    char whole[80];
    whole_name(r, name, whole);
    const int64_t bytes = race_array_bytes(r->arrays, whole);
    return bytes < 0 ? 0 : bytes / size;
}

const void *NAME(get)(Reader *r, const char *name, int64_t count, int64_t size)
{
    char whole[80];
    whole_name(r, name, whole);
    return PROBLEM(r) ? NULL : race_array(r->arrays, whole, count * size);
}

int NAME(expect)(Reader *r, int holds, const char *what)
{
    if (!holds && !PROBLEM(r)) snprintf(r->arrays->problem, 256, "%s%.60s points at what is not there", r->at, what);
    return !PROBLEM(r);
}

const int64_t *NAME(indices)(Reader *r, const char *name, int64_t count, int64_t low, int64_t high)
{
    const int64_t *found = NAME(get)(r, name, count, sizeof(int64_t));
    for (int64_t k = 0; found && k < count; k++)
        if (!NAME(expect)(r, found[k] >= low && found[k] < high, name)) return NULL;
    return found;
}

/* copies whole numbers into fields that lie side by side; zeros where there is a problem */
void NAME(fields)(Reader *r, const char *name, int64_t *out, int64_t count, int64_t low, int64_t high)
{
    const int64_t *found = NAME(indices)(r, name, count, low, high);
    for (int64_t k = 0; k < count; k++) out[k] = found ? found[k] : 0;
}

void NAME(matrix)(Reader *r, const char *name, int64_t index, int64_t rows, int64_t columns, int64_t stacked, Matrix *out)
{
    char whole[40];
    if (index >= 0) snprintf(whole, sizeof whole, "%.20s.%d", name, (int)index);
    else snprintf(whole, sizeof whole, "%.39s", name);
    *out = (Matrix){rows, columns, NAME(get)(r, whole, stacked * rows * columns, sizeof(REAL)), NULL};
    r->matrices[r->n_matrices] = out;
    r->stacked[r->n_matrices++] = stacked;
}

/* components, channels, live, and one number more, of each */
int64_t NAME(irreps)(Reader *r, const char *name, Irrep *out, int64_t *more)
{
    const int64_t n = NAME(entries)(r, name, 4 * sizeof(int64_t));
    if (!NAME(expect)(r, n > 0 && n <= IRREPS, name)) return 0;
    const int64_t *found = NAME(indices)(r, name, 4 * n, 0, MOST_WIDE);
    for (int64_t k = 0; found && k < n; k++) {
        out[k] = (Irrep){found[4 * k], found[4 * k + 1], found[4 * k + 2]};
        if (more) more[k] = found[4 * k + 3];
        NAME(expect)(r, out[k].k % 2 && out[k].k <= 7 && out[k].c > 0, name);
    }
    return PROBLEM(r) ? 0 : n;
}
