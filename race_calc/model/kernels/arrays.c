#include <stdio.h>
#include <string.h>
#include "arrays.h"

static const Entry *entry(const Arrays *arrays, const char *name)
{
    const Head *head = (const Head *)arrays->block;
    const Entry *entries = (const Entry *)(arrays->block + sizeof(Head));
    for (int64_t k = 0; k < head->count; k++)
        if (!strncmp(entries[k].name, name, sizeof entries[k].name)) return entries + k;
    return NULL;
}

int64_t race_array_bytes(const Arrays *arrays, const char *name)
{
    const Entry *found = entry(arrays, name);
    return found ? found->bytes : -1;
}

const void *race_array(const Arrays *arrays, const char *name, int64_t bytes)
{
    const Entry *found = entry(arrays, name);
    if (found && found->bytes == bytes) return arrays->block + found->at;
    if (!*arrays->problem) snprintf(arrays->problem, 256, "array %s has %lld bytes, not %lld", name, found ? (long long)found->bytes : -1LL,
                                    (long long)bytes);
    return NULL;
}

/* do all arrays lie inside a block of so many bytes? */
int race_arrays_fit(const char *block, int64_t bytes)
{
    const Head *head = (const Head *)block;
    const Entry *entries = (const Entry *)(block + sizeof(Head));
    if (head->count < 0 || head->count > (bytes - (int64_t)sizeof(Head)) / (int64_t)sizeof(Entry)) return 0;
    for (int64_t k = 0; k < head->count; k++)
        if (!memchr(entries[k].name, 0, sizeof entries[k].name) || entries[k].at < 0 || entries[k].at % 64 || entries[k].bytes < 0 ||
            entries[k].at > bytes || entries[k].bytes > bytes - entries[k].at) return 0;
    return 1;
}
