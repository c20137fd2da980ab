/* Numbers of atoms on their way between owners and ghosts, for LAMMPS' forward and reverse communication.
 *
 * LAMMPS sends in several hops: what a ghost has may go on to the ghost of that ghost, and comes back the same way. So each ghost has a
 * row here, also one that the model does not need.
 *
 * SPDX-License-Identifier: GPL-2.0-only
 */
#ifndef RACE_TRAVEL_H
#define RACE_TRAVEL_H
#include <cstring>
#include <functional>
#include <vector>

namespace LAMMPS_NS {

struct Travel {
  std::function<void(int atom, double *row)> read;         // an own atom's numbers, forward
  std::function<void(int atom, const double *row)> add;    // to an own atom, in reverse
  std::vector<double> rows;                                // (ghosts, width)
  size_t width = 0;
  int own = 0;

  void begin(int nlocal, int nghost, size_t w)
  {
    own = nlocal, width = w;
    rows.assign((size_t) nghost * w, 0.0);
  }

  double *row(int ghost) { return rows.data() + (size_t) (ghost - own) * width; }

  int pack(int n, const int *list, double *buffer)
  {
    for (int k = 0; k < n; k++, buffer += width)
      if (list[k] < own) read(list[k], buffer);
      else memcpy(buffer, row(list[k]), width * sizeof(double));
    return n * (int) width;
  }

  void put(int n, int first, const double *buffer) { memcpy(row(first), buffer, n * width * sizeof(double)); }

  int pack_back(int n, int first, double *buffer)
  {
    memcpy(buffer, row(first), n * width * sizeof(double));
    return n * (int) width;
  }

  void add_back(int n, const int *list, const double *buffer)
  {
    for (int k = 0; k < n; k++, buffer += width)
      if (list[k] < own) add(list[k], buffer);
      else for (size_t c = 0; c < width; c++) row(list[k])[c] += buffer[c];
  }
};

}    // namespace LAMMPS_NS
#endif
