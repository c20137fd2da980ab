/* Named arrays in one block of memory; `arrays.py` writes them. Nothing here depends on the type of the numbers. */
#ifndef ARRAYS_H
#define ARRAYS_H
#include <stdint.h>

typedef struct { char name[48]; int64_t at, bytes; } Entry;         /* `at`: from the beginning of the block, a multiple of 64 */
typedef struct { char magic[8]; int64_t count, bytes; } Head;       /* before the entries */
typedef struct { const char *block; char *problem; } Arrays;        /* problem: 256 characters, "" while there is none */

const void *race_array(const Arrays *arrays, const char *name, int64_t bytes); /* NULL, with the problem told, for another size */
int64_t race_array_bytes(const Arrays *arrays, const char *name);              /* -1 where there is none */

int race_arrays_fit(const char *block, int64_t bytes);
#endif
