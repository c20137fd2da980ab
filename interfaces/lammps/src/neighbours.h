/* The neighbours of this rank's atoms as race.h wants them.
 *
 * SPDX-License-Identifier: GPL-2.0-only
 */
#ifndef RACE_NEIGHBOURS_H
#define RACE_NEIGHBOURS_H
#include "neigh_list.h"
#include "race.h"

#include <vector>

namespace LAMMPS_NS {

struct Neighbours {
  std::vector<int64_t> numbers, first, neighbour;    // race_structure: own atoms in LAMMPS' order, then the ghosts
  std::vector<double> vectors;                       // (E, 3) Å
  std::vector<int> ghosts;                           // LAMMPS' index of each ghost
  int own = 0;

  /* home: of each of LAMMPS' atoms the own atom that it is or is an image of, or -1; number_of_type: atomic numbers; cutoff: Å */
  void build(int nlocal, int nall, double **x, const int *type, const NeighList *list, const std::vector<int> &home,
             const std::vector<int64_t> &number_of_type, double cutoff);

  race_structure structure() const;

 private:
  std::vector<int> place;    // of each of LAMMPS' atoms among all of this structure's, or -1
};

}    // namespace LAMMPS_NS
#endif
