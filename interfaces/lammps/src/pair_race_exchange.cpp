/* What goes from rank to rank within a step: features and gradients between layers, forces of the members, and the calls of LAMMPS.
 *
 * SPDX-License-Identifier: GPL-2.0-only
 */
#include "atom.h"
#include "comm.h"
#include "error.h"
#include "pair_race.h"

#include <climits>
#include <cstring>

using namespace LAMMPS_NS;

void PairRace::in_stages(race_stages *stages)
{
  char message[RACE_MESSAGE];
  for (int64_t t = 0; t < info.trunks; t++) {
    for (int64_t i = 0; i < info.layers; i++) {
      if (i) forward(stages, i);
      check(race_forward(stages, t, i, message), message);
    }
    for (int64_t i = info.layers - 1; i >= 0; i--) {
      check(race_backward(stages, t, i, message), message);
      if (i) backward(stages, i);
    }
  }
  race_end(stages);
}

/* what an atom's messages are made of, to its copies */
void PairRace::forward(race_stages *stages, int64_t layer)
{
  const size_t width = race_feature_width(stages, layer);
  check_width(width);
  travel.begin(atom->nlocal, atom->nghost, width);
  travel.read = [=](int i, double *row) {
    const int64_t one = i;
    race_pack_features(stages, layer, 1, &one, row);
  };
  comm->forward_comm(this, (int) width);
  for (size_t k = 0; k < around.ghosts.size(); k++) {
    const int64_t one = around.own + (int64_t) k;
    race_put_features(stages, layer, 1, &one, travel.row(around.ghosts[k]));
  }
}

/* what the copies contribute to an atom's gradient, home */
void PairRace::backward(race_stages *stages, int64_t layer)
{
  const size_t width = race_gradient_width(stages, layer);
  check_width(width);
  travel.begin(atom->nlocal, atom->nghost, width);
  for (size_t k = 0; k < around.ghosts.size(); k++) {
    const int64_t one = around.own + (int64_t) k;
    race_pack_gradients(stages, layer, 1, &one, travel.row(around.ghosts[k]));
  }
  travel.add = [=](int i, const double *row) {
    const int64_t one = i;
    race_add_gradients(stages, layer, 1, &one, row);
  };
  comm->reverse_comm(this, (int) width);
}

/* forces of every member on ghosts, to the atoms that they are copies of; the ghosts keep theirs for LAMMPS' own sum */
void PairRace::gather_member_forces()
{
  const int64_t n = (int64_t) around.numbers.size(), members = info.members;
  travel.begin(atom->nlocal, atom->nghost, 3 * members);
  for (size_t k = 0; k < around.ghosts.size(); k++)
    for (int64_t m = 0; m < members; m++)
      memcpy(travel.row(around.ghosts[k]) + 3 * m, &forces[3 * (m * n + around.own + k)], 3 * sizeof(double));
  whole = forces;
  travel.add = [=](int i, const double *row) {
    for (int64_t m = 0; m < members; m++)
      for (int a = 0; a < 3; a++) whole[3 * (m * n + i) + a] += row[3 * m + a];
  };
  comm->reverse_comm(this, 3 * (int) members);
}

/* LAMMPS counts what it sends in int */
void PairRace::check_width(size_t width)
{
  if ((double) width * atom->nghost > INT_MAX || (double) width * atom->nlocal > INT_MAX)
    error->one(FLERR, "pair_style race: {} ghosts with {} numbers each are more than LAMMPS can send at once: take more ranks", atom->nghost, width);
}

int PairRace::pack_forward_comm(int n, int *list, double *buffer, int, int *)
{
  return travel.pack(n, list, buffer);
}

void PairRace::unpack_forward_comm(int n, int first, double *buffer)
{
  travel.put(n, first, buffer);
}

int PairRace::pack_reverse_comm(int n, int first, double *buffer)
{
  return travel.pack_back(n, first, buffer);
}

void PairRace::unpack_reverse_comm(int n, int *list, double *buffer)
{
  travel.add_back(n, list, buffer);
}
