/* What the members of a model say of one step, on this rank's atoms. In LAMMPS' units.
 *
 * SPDX-License-Identifier: GPL-2.0-only
 */
#ifndef RACE_SIGMA_H
#define RACE_SIGMA_H
#include "lmptype.h"

#include <vector>

namespace LAMMPS_NS {

struct Sigma {
  bigint step = -1;                 // -1: not known
  std::vector<double> principal;    // (own,) largest principal sigma of each force
  std::vector<double> component;    // (own,) variance of a force's component, mean over directions
  std::vector<double> energies;     // (own,) spread of each atom's energy between the members, never calibrated
  double energy = 0;                // sigma of the whole energy
  std::vector<double> members;      // (M,) whole energies
};

}    // namespace LAMMPS_NS
#endif
