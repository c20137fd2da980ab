/* race.h on the compiled step: one structure in one call, and what the stages of it share. */
#include "race_model.h"

void race_close(Run *run)
{
    free(run->species);
    free(run->out);
    free(run->space);
}

race_status race_space(Run *run, int64_t bytes, char *message)
{
    if (!posix_memalign((void **)&run->space, 64, bytes)) return RACE_OK;
    run->space = NULL;
    return race_fail(RACE_MEMORY, message, "no memory for this structure");
}

/* all but the space */
race_status race_open(const race_model *m, const race_structure *s, const race_results *to, Run *run, char *message)
{
    const int64_t n = s->atoms, own = n - s->ghosts, t = m->info.trunks;
    *run = (Run){0};
    message[0] = 0;
    if (own < 0 || s->ghosts < 0) return race_fail(RACE_GEOMETRY, message, "a structure cannot have more ghosts than atoms, nor fewer than none");
    const int64_t edges = s->first[own], rows = !to->forces && !to->virials ? 0 : to->of_members || m->mean_row < 0 ? m->last : 1;
    int64_t *whole = run->species = calloc(2 * n + edges + m->last + 1, sizeof(int64_t));
    const int64_t sizes[] = {t * n * m->last, t * n * m->columns, t * n * 3 * m->widths[0], t * n * 5 * m->widths[1], t * n * m->last,
                             t * rows * n * 3, t * rows * 9, 4 * n + 9};
    int64_t total = 0, pairs = 0;
    for (int k = 0; k < 8; k++) total += sizes[k];
    double *part = run->out = calloc(total + 1, sizeof(double)), *place[8];
    if (!whole || !part) return race_fail(RACE_MEMORY, message, "no memory for the results");
    for (int k = 0; k < 8; k++) { place[k] = part; part += sizes[k]; }
    int64_t *pair = whole + n, *batch = pair + edges, *row = batch + n;
    run->known = place[7];
    const race_status status = race_number(&m->info, s, run->species, pair, &pairs, message);
    for (int64_t k = 0; k < rows; k++) row[k] = rows == 1 && m->mean_row >= 0 ? m->mean_row : k;
    run->call = (Call){
        .atoms = n, .edges = edges, .pairs = pairs, .structures = 1, .rows = rows, .most_kept = 1 << 24, .row = row,
        .species = run->species, .first = s->first, .neighbour = s->neighbour, .pair = pair, .vectors = s->vectors, .batch = batch,
        .atom_energy = place[0], .scalars = place[1], .read = {m->widths[0] ? place[2] : NULL, m->widths[1] ? place[3] : NULL},
        .atom_variance = m->info.has_variance ? place[4] : NULL,
        .log_covariance = m->info.has_covariance ? to->log_covariances : NULL,
        .forces = place[5], .virial = place[6], .features = to->features,
    };
    return status;
}

/* what the network gives and what is added, to where they are wanted */
void race_hand_over(const race_model *m, const race_structure *s, const race_results *to, const Run *run)
{
    const Call *call = &run->call;
    double *known = run->known;
    race_repel(&m->repulsion, s, call->species, known, known + s->atoms, known + 4 * s->atoms);
    const int64_t n = s->atoms, own = n - s->ghosts, rows = call->rows * m->info.trunks;
    for (int64_t t = 0; t < m->info.trunks; t++)
        for (int64_t q = 0; q < m->last; q++) {
            const int64_t member = t * m->last + q;
            double energy = 0, variance = 0;
            for (int64_t i = 0; i < own; i++) {
                const double one = call->atom_energy[(t * n + i) * m->last + q] + m->reference[call->species[i]] + known[i];
                energy += one;
                if (to->atom_energies) to->atom_energies[member * own + i] = one;
                if (call->atom_variance) variance += call->atom_variance[(t * n + i) * m->last + q];
            }
            if (to->energies) to->energies[member] = energy;
            if (to->variances && call->atom_variance) to->variances[member] = variance;
        }
    const int64_t wanted = to->of_members ? m->info.members : 1;
    for (int64_t row = 0; row < wanted; row++) {
        const int64_t first = to->of_members ? row : 0, stop = to->of_members ? row + 1 : rows; /* of the mean: all rows */
        for (int64_t k = 0; to->forces && k < 3 * n; k++) {
            double sum = 0;
            for (int64_t one = first; one < stop; one++) sum += call->forces[one * 3 * n + k];
            to->forces[row * 3 * n + k] = sum / (double)(stop - first) + known[n + k];
        }
        for (int64_t k = 0; to->virials && k < 9; k++) {
            double sum = 0;
            for (int64_t one = first; one < stop; one++) sum += call->virial[one * 9 + k];
            to->virials[row * 9 + k] = sum / (double)(stop - first) + known[4 * n + k];
        }
    }
}

race_status race_evaluate(const race_model *m, const race_structure *s, const race_results *to, int threads, char *message)
{
    Run run;
    message[0] = 0;
    if (s->ghosts) return race_fail(RACE_PAIRS, message, "a structure with ghosts needs race_begin and its stages");
    if (s->atoms < 1) return race_fail(RACE_GEOMETRY, message, "the structure has no atoms");
    race_status status = race_open(m, s, to, &run, message);
    if (!status) status = race_space(&run, m->call.bytes(m->model, &run.call, threads), message);
    if (!status && m->call.step(m->model, &run.call, threads, run.space)) status = race_fail(RACE_MEMORY, message, "no memory or no thread");
    if (!status) race_hand_over(m, s, to, &run);
    race_close(&run);
    return status;
}
