/* Reading a model from named arrays. Whatever they say is checked before it is used: sizes here and in model.c, what points into other arrays
 * in checks.c. After the first problem there are zeros and NULL. */
#include "arrays.h"
#include "step.h"

#define MATRICES (LAYERS * ((3 + ORDERS) * IRREPS + 2 + 3 * READ)) /* up, down, factors, mix, left factors; readouts */
#define MOST_WIDE 32768                            /* channels, columns, members: so that no product of sizes overflows */

typedef struct {
    const Arrays *arrays;
    Model *model;
    char at[32];                                   /* before the names: "2." of the layer 2 */
    Matrix *matrices[MATRICES];
    int64_t stacked[MATRICES]; /* matrices one after the other in each */
    int64_t n_matrices;
} Reader;

#define PROBLEM(r) (*(r)->arrays->problem)

int64_t NAME(entries)(Reader *r, const char *name, int64_t size); /* how many of so many bytes */
const void *NAME(get)(Reader *r, const char *name, int64_t count, int64_t size);
const int64_t *NAME(indices)(Reader *r, const char *name, int64_t count, int64_t low, int64_t high); /* all from low to high - 1 */
int NAME(expect)(Reader *r, int holds, const char *what);
void NAME(fields)(Reader *r, const char *name, int64_t *out, int64_t count, int64_t low, int64_t high);
void NAME(matrix)(Reader *r, const char *name, int64_t index, int64_t rows, int64_t columns, int64_t stacked, Matrix *out);
int64_t NAME(irreps)(Reader *r, const char *name, Irrep *out, int64_t *more);

/* is what the kernels follow inside of what there is? */
void NAME(check_messages)(Reader *r, const Layer *layer, const Messages *messages, int live);
void NAME(check_product)(Reader *r, const Layer *layer, int64_t o);
void NAME(check_parts)(Reader *r, const Layer *layer);
