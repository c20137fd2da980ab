/* What race.c does with a structure before and beside the network. */
#ifndef RACE_STRUCTURE_H
#define RACE_STRUCTURE_H
#include "race.h"

/* screened repulsion (repulsion.py): (S, S, 3) k z z, length and reach of each pair of elements, or NULL; 4 amplitudes and 4 decays */
typedef struct { int64_t elements; const double *pairs, *waves; } Repulsion;

race_status race_fail(race_status status, char *message, const char *text);
race_status race_number(const race_info *info, const race_structure *s, int64_t *species, int64_t *pair, int64_t *pairs,
                        char *message);
void race_repel(const Repulsion *known, const race_structure *s, const int64_t *species, double *energy, double *forces, double *virial);
#endif
