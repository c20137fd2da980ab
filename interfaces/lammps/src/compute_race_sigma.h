/* compute ID group race/sigma: the uncertainty of pair_style race.
 *
 * SPDX-License-Identifier: GPL-2.0-only
 */
#ifndef LMP_COMPUTE_RACE_SIGMA_H
#define LMP_COMPUTE_RACE_SIGMA_H
#include "compute.h"

namespace LAMMPS_NS {

/* scalar: sigma of the energy. Vector: it, the largest principal sigma of a force, the root mean square of the sigma of a component of a
 * force, the mean of the largest principal ones (these three over the group), 1 where calibrated, then the energies of the members.
 * Per atom: largest principal sigma of the force; spread of its energy between the members. */
class ComputeRaceSigma : public Compute {
 public:
  ComputeRaceSigma(class LAMMPS *, int, char **);
  ~ComputeRaceSigma() override;
  void init() override;
  double compute_scalar() override;
  void compute_vector() override;
  void compute_peratom() override;
  double memory_usage() override;

 private:
  class PairRace *pair;
  int nmax;
  const struct Sigma &told();
};

}    // namespace LAMMPS_NS
#endif
