/* A RACE potential in C and C++, without Python: load a file of `race-calc export c`, evaluate, free.
 *
 *     race_model *model;
 *     char message[RACE_MESSAGE];
 *     if (race_load("model.race", &model, message)) { fprintf(stderr, "%s\n", message); exit(1); }
 *     race_evaluate(model, &structure, &results, 1, message);
 *     race_free(model);
 *
 * Units are eV and Å. Nothing is global: several threads may evaluate with one model at once. Functions return RACE_OK or what went wrong,
 * with a message. A file is checked against its hash; load only files of people whom you trust.
 */
#ifndef RACE_H
#define RACE_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define RACE_MESSAGE 256

typedef enum { RACE_OK, RACE_FILE, RACE_NEWER, RACE_ELEMENT, RACE_PAIRS, RACE_GEOMETRY, RACE_MEMORY } race_status;

typedef struct race_model race_model;

typedef struct {
    int64_t members, features;     /* M, L: numbers of last-layer features */
    double cutoff;                 /* Å */
    int64_t n_elements;
    const int64_t *elements;       /* atomic numbers */
    int has_variance, has_covariance;
} race_info;

/* N atoms and every directed pair i <- j within the cutoff, periodic images included; pairs beyond the cutoff are no error and give nothing */
typedef struct {
    int64_t atoms;
    const int64_t *numbers;        /* (N,) atomic numbers */
    const int64_t *first;          /* (N + 1,) first pair of each atom i: the pairs of i come one after the other */
    const int64_t *neighbour;      /* (E,) the atom j, or whose image it is */
    const double *vectors;         /* (E, 3) r_j - r_i, Å */
} race_structure;

/* Where results go; NULL: not wanted. `of_members`: forces and virials of every member, F = M; else of their mean, F = 1. */
typedef struct {
    int of_members;
    double *energies;              /* (M,) eV */
    double *atom_energies;         /* (M, N) eV */
    double *forces;                /* (F, N, 3) eV/Å */
    double *virials;               /* (F, 3, 3) eV, dE/d strain: stress = virial / volume */
    double *variances;             /* (M,) eV², what each member predicts for its energy */
    double *log_covariances;       /* (M, N, 3, 3), S of the covariance exp(S) of each force, in log (eV/Å)² */
    double *features;              /* (N, L) eV, last-layer features of the first member */
} race_results;

race_status race_load(const char *file, race_model **model, char *message);
void race_free(race_model *model);
race_info race_about(const race_model *model);
race_status race_evaluate(const race_model *model, const race_structure *structure, const race_results *results, int threads, char *message);

#ifdef __cplusplus
}
#endif
#endif
