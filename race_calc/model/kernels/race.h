/* A RACE potential in C and C++, without Python: load a file of `race-calc export c`, evaluate, free.
 *
 *     race_model *model;
 *     char message[RACE_MESSAGE];
 *     if (race_load("model.race", &model, message)) { fprintf(stderr, "%s\n", message); exit(1); }
 *     race_evaluate(model, &structure, &results, 1, message);
 *     race_free(model);
 *
 * Units are eV and Å. Nothing is global: several threads may evaluate with one model at once. Functions return RACE_OK or what went wrong,
 * with a message. A file is checked against its hash, and what its arrays point at is checked as well.
 */
#ifndef RACE_H
#define RACE_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define RACE_MESSAGE 256

typedef enum { RACE_OK, RACE_FILE, RACE_NEWER, RACE_ELEMENT, RACE_PAIRS, RACE_GEOMETRY, RACE_MEMORY, RACE_ORDER } race_status;

typedef struct race_model race_model;

typedef struct {
    int64_t members, features;     /* M, L: numbers of last-layer features */
    double cutoff;                 /* Å */
    int64_t n_elements;
    const int64_t *elements;       /* atomic numbers */
    int has_variance, has_covariance;
    int64_t trunks, layers;        /* for the stages */
    int calibrated;                /* whether the file has a calibration */
    int closed_form;               /* whether the variance of the energy needs the features */
} race_info;

/* N atoms and every directed pair i <- j within the cutoff, periodic images included; pairs beyond the cutoff are no error and give nothing.
 * Ghosts, the last of the atoms, are copies of atoms that somebody else has: without pairs of their own. Only for the stages. */
typedef struct {
    int64_t atoms;
    const int64_t *numbers;        /* (N,) atomic numbers */
    const int64_t *first;          /* (N - ghosts + 1,) first pair of each atom i: the pairs of i come one after the other */
    const int64_t *neighbour;      /* (E,) the atom j, or whose image it is */
    const double *vectors;         /* (E, 3) r_j - r_i, Å */
    int64_t ghosts;
} race_structure;

/* Where results go; NULL: not wanted. With ghosts, energies and what else is of atoms are of the others, forces of all: add those of a ghost to
 * the atom that it is a copy of. `of_members`: forces and virials of every member, F = M; else of their mean, F = 1. */
typedef struct {
    int of_members;
    double *energies;              /* (M,) eV */
    double *atom_energies;         /* (M, N - ghosts) eV */
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

/* In stages, for engines that divide space: ghosts then need to reach one cutoff. One thread. Arrays of the structure and the results must stay
 * until the end; the last stage fills the results.
 *
 *     race_begin(model, &structure, &results, &stages, message);
 *     for (t = 0; t < about.trunks; t++) {
 *         for (i = 0; i < about.layers; i++) {
 *             if (i) ...  features of layer i: from the owners (race_pack_features) to their ghosts (race_put_features)
 *             race_forward(stages, t, i, message);
 *         }
 *         for (i = about.layers - 1; i >= 0; i--) {   // only where forces or virials are wanted
 *             race_backward(stages, t, i, message);
 *             if (i) ...  gradients of layer i: from the ghosts (race_pack_gradients) to their owners (race_add_gradients)
 *         }
 *     }
 *     race_end(stages);
 */
typedef struct race_stages race_stages;

race_status race_begin(const race_model *model, const race_structure *structure, const race_results *results, race_stages **stages, char *message);
race_status race_forward(race_stages *stages, int64_t trunk, int64_t layer, char *message);
race_status race_backward(race_stages *stages, int64_t trunk, int64_t layer, char *message);
void race_end(race_stages *stages);

/* numbers of an atom in a buffer, from layer 1 on */
int64_t race_feature_width(const race_stages *stages, int64_t layer);
int64_t race_gradient_width(const race_stages *stages, int64_t layer);
void race_pack_features(race_stages *stages, int64_t layer, int64_t count, const int64_t *atoms, double *buffer);
void race_put_features(race_stages *stages, int64_t layer, int64_t count, const int64_t *atoms, const double *buffer);
void race_pack_gradients(race_stages *stages, int64_t layer, int64_t count, const int64_t *atoms, double *buffer);
void race_add_gradients(race_stages *stages, int64_t layer, int64_t count, const int64_t *atoms, const double *buffer);

/* What the members say together, and the calibration of the file: numbers of RACECalculator. `calibrated`: 0 as they say it; else as
 * `race-calc calibrate` found it to be right, where the file knows (race_info.calibrated). `count` atoms; covariances are (count, 3, 3) in
 * (eV/Å)². An engine that divides space gives each rank's own atoms, member forces summed over copies, and adds up sums over ranks.
 *
 *     race_spread(...)                  covariances between the members and, mean over them, predicted; zero where there are none
 *     ...                               tr/3 of `between` of every atom, from owners to ghosts
 *     race_nearby(...)                  its mean around each atom
 *     race_covariance(...)              total covariance of each force;  race_principal: its largest principal standard deviation
 *     race_energy_around(...)           a sum over atoms that the variance of the energy needs
 *     race_energy_variance(...)         of the whole structure: energies (M,), variances (M,) or NULL, sums of features (L,) or NULL
 */
void race_spread(const race_model *model, int64_t count, int64_t stride, const double *forces /* (M, stride, 3) */,
                 const double *log_covariances /* (M, stride, 3, 3) or NULL */, double *between, double *predicted);
void race_nearby(const race_model *model, const race_structure *structure, const double *values /* (N,) */, double *nearby /* (N - ghosts,) */);
void race_covariance(const race_model *model, int calibrated, int64_t count, const int64_t *numbers, const double *between,
                     const double *predicted, const double *nearby, double *total);
void race_principal(int64_t count, const double *covariances, double *std);
double race_energy_around(const race_model *model, int64_t count, const double *between, const double *nearby);
double race_energy_variance(const race_model *model, int calibrated, int64_t atoms, const double *energies, const double *variances,
                            const double *features, double around);

#ifdef __cplusplus
}
#endif
#endif
