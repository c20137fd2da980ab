/* What the files of race.h share: a loaded model, and a structure on its way through it. */
#ifndef RACE_MODEL_H
#define RACE_MODEL_H
#include "race.h"
#include "race_structure.h"
#include "step.h"

/* the step for each type of number and kind of processor */
typedef struct {
    void *(*load)(const char *block, char *problem);
    void (*free)(void *model);
    int64_t (*bytes)(const void *model, const Call *call, int64_t threads);
    int (*step)(const void *model, const Call *call, int64_t threads, char *space);
    int64_t (*stages_bytes)(const void *model, const Call *call);
    void *(*stages_begin)(const void *model, const Call *call, int64_t owned, char *space);
    int (*stages_forward)(void *stages, int64_t trunk, int64_t layer);
    int (*stages_backward)(void *stages, int64_t layer);
    int64_t (*stages_width)(const void *model, int64_t layer);
    void (*stages_move)(void *stages, int64_t layer, int back, int how, int64_t count, const int64_t *atoms, double *buffer);
} Functions;

/* what makes an uncertainty of what the members say; NULL: the file has none */
typedef struct {
    const double *noise;                   /* (2,) variance of labels: of energies, eV² an atom; of components of forces, (eV/Å)² */
    const double *last_layer;              /* (L, L) covariance of last-layer weights */
    const double *energy, *force;          /* (2,), (1,) factors */
    const double *sources;                 /* (2, 3) scale, exponent, floor of the size of energies, of forces (scale 0: not taken) */
    const double *form, *of_element;       /* (5,) scale, shape, own, floor, degree; (S,) factor of each element */
} Calibration;

struct race_model {
    char *block;
    void *model;
    Functions call;
    race_info info;
    int64_t last, energies, columns, widths[READ];
    int64_t mean_row;                      /* which energy is the mean of the members; -1 where each member has a trunk */
    const double *reference;               /* (S,) eV of each element */
    Repulsion repulsion;
    Calibration calibration;
};

/* one structure: what the call reads and fills, and what is added to the network: energies (N,), forces (N, 3), virial */
typedef struct { int64_t *species; double *out, *known; char *space; Call call; } Run;

race_status race_open(const race_model *model, const race_structure *structure, const race_results *to, Run *run, char *message);
race_status race_space(Run *run, int64_t bytes, char *message); /* aligned, not cleared */
void race_hand_over(const race_model *model, const race_structure *structure, const race_results *to, const Run *run);
void race_close(Run *run);
#endif
