/* A water molecule's energy, its uncertainty and its forces, without Python. See docs/c.md; from the repository:
 *
 *     race-calc export c 3bpa-de model.race
 *     cc examples/c/step.c -I race_calc/model/kernels race_calc/model/kernels/_library*.so -lm -o step
 *     LD_LIBRARY_PATH=race_calc/model/kernels ./step model.race
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "race.h"

#define ATOMS 3

int main(int count, char **arguments)
{
    char message[RACE_MESSAGE];
    race_model *model;
    if (race_load(count > 1 ? arguments[1] : "model.race", &model, message)) { fprintf(stderr, "%s\n", message); return 1; }
    const race_info about = race_about(model);
    const int64_t numbers[ATOMS] = {8, 1, 1};
    const double positions[ATOMS][3] = {{0, 0, 0.119}, {0, 0.763, -0.477}, {0, -0.763, -0.477}};
    int64_t first[ATOMS + 1] = {0}, neighbour[ATOMS * ATOMS];
    double vectors[3 * ATOMS * ATOMS];
    for (int i = 0; i < ATOMS; i++) { /* every atom with every other; with a cell, their images as well */
        first[i + 1] = first[i];
        for (int j = 0; j < ATOMS; j++)
            if (j != i) {
                for (int x = 0; x < 3; x++) vectors[3 * first[i + 1] + x] = positions[j][x] - positions[i][x];
                neighbour[first[i + 1]++] = j;
            }
    }
    double *energies = malloc(about.members * sizeof(double)), forces[3 * ATOMS], mean = 0, variance = 0;
    const race_structure molecule = {ATOMS, numbers, first, neighbour, vectors};
    const race_results results = {.energies = energies, .forces = forces};
    if (race_evaluate(model, &molecule, &results, 1, message)) { fprintf(stderr, "%s\n", message); return 1; }
    for (int64_t m = 0; m < about.members; m++) mean += energies[m] / (double)about.members;
    for (int64_t m = 0; m < about.members; m++) variance += pow(energies[m] - mean, 2) / (double)about.members;
    printf("%.10f eV, sigma of %lld members %.6f eV\n", mean, (long long)about.members, sqrt(variance));
    for (int i = 0; i < ATOMS; i++) printf("%14.10f %14.10f %14.10f eV/A\n", forces[3 * i], forces[3 * i + 1], forces[3 * i + 2]);
    free(energies);
    race_free(model);
    return 0;
}
