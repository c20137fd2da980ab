/* SPDX-License-Identifier: GPL-2.0-only */
#include "neighbours.h"

using namespace LAMMPS_NS;

/* An image of an own atom is that atom, with the vector to the image; an atom of another rank becomes a ghost when a pair asks for it. */
void Neighbours::build(int nlocal, int nall, double **x, const int *type, const NeighList *list, const std::vector<int> &home,
                       const std::vector<int64_t> &number_of_type, double cutoff)
{
  own = nlocal;
  place.assign(home.begin(), home.begin() + nall);
  numbers.clear(), first.clear(), neighbour.clear(), vectors.clear(), ghosts.clear();
  for (int i = 0; i < nlocal; i++) numbers.push_back(number_of_type[type[i]]);
  first.push_back(0);
  for (int i = 0; i < nlocal; i++) {
    const double *at = x[i];
    const int *of = list->firstneigh[i];
    for (int k = 0; k < list->numneigh[i]; k++) {
      const int j = of[k] & NEIGHMASK;
      const double dx = x[j][0] - at[0], dy = x[j][1] - at[1], dz = x[j][2] - at[2];
      if (dx * dx + dy * dy + dz * dz >= cutoff * cutoff) continue;    // what is no number stays, and is refused
      if (place[j] < 0) {
        place[j] = nlocal + (int) ghosts.size();
        ghosts.push_back(j);
        numbers.push_back(number_of_type[type[j]]);
      }
      neighbour.push_back(place[j]);
      vectors.insert(vectors.end(), {dx, dy, dz});
    }
    first.push_back((int64_t) neighbour.size());
  }
}

race_structure Neighbours::structure() const
{
  return {(int64_t) numbers.size(), numbers.data(), first.data(), neighbour.data(), vectors.data(), (int64_t) ghosts.size()};
}
