/* SPDX-License-Identifier: GPL-2.0-only */
#include "compute_race_sigma.h"

#include "atom.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "pair_race.h"
#include "update.h"

#include <cmath>

using namespace LAMMPS_NS;

static constexpr int FIRST = 5;    // numbers before the energies of the members

ComputeRaceSigma::ComputeRaceSigma(LAMMPS *lmp, int narg, char **arg) : Compute(lmp, narg, arg), pair(nullptr), nmax(0)
{
  if (narg != 3) error->all(FLERR, "compute race/sigma takes no arguments: compute ID group race/sigma");
  scalar_flag = vector_flag = peratom_flag = timeflag = 1;
  extscalar = extvector = 0;
  size_peratom_cols = 2;
  pair = dynamic_cast<PairRace *>(force->pair_match("race", 1));
  if (!pair) error->all(FLERR, "compute race/sigma needs pair_style race before it");
  size_vector = FIRST + (int) pair->about().members;
  vector = new double[size_vector];
}

ComputeRaceSigma::~ComputeRaceSigma()
{
  delete[] vector;
  memory->destroy(array_atom);
}

void ComputeRaceSigma::init()
{
  pair = dynamic_cast<PairRace *>(force->pair_match("race", 1));
  if (!pair || size_vector != FIRST + (int) pair->about().members)
    error->all(FLERR, "compute race/sigma needs the pair_style race that it was made for: give it again");
  const race_info about = pair->about();
  if (about.members == 1 && !about.has_covariance && !about.has_variance)
    error->all(FLERR, "compute race/sigma: this model gives no uncertainty (one member and no variance head)");
}

const Sigma &ComputeRaceSigma::told()
{
  const Sigma &sigma = pair->sigma();
  if (sigma.step != update->ntimestep)
    error->all(FLERR, "compute race/sigma: the uncertainty was not asked for before step {}", update->ntimestep);
  return sigma;
}

double ComputeRaceSigma::compute_scalar()
{
  invoked_scalar = update->ntimestep;
  return scalar = told().energy;
}

void ComputeRaceSigma::compute_vector()
{
  invoked_vector = update->ntimestep;
  const Sigma &sigma = told();
  double largest = 0, most, sums[4] = {0}, sum[4];    // of variances, of sigmas, atoms, those that are no number
  for (int i = 0; i < (int) sigma.principal.size(); i++)
    if (atom->mask[i] & groupbit) {
      largest = MAX(largest, sigma.principal[i]);
      sums[0] += sigma.component[i], sums[1] += sigma.principal[i], sums[2]++, sums[3] += std::isnan(sigma.principal[i]);
    }
  MPI_Allreduce(&largest, &most, 1, MPI_DOUBLE, MPI_MAX, world);
  MPI_Allreduce(sums, sum, 4, MPI_DOUBLE, MPI_SUM, world);
  vector[0] = sigma.energy;
  vector[1] = sum[3] > 0 ? NAN : most;
  vector[2] = sum[2] > 0 ? sqrt(sum[0] / sum[2]) : 0.0;
  vector[3] = sum[2] > 0 ? sum[1] / sum[2] : 0.0;
  vector[4] = pair->about().calibrated;
  for (size_t m = 0; m < sigma.members.size(); m++) vector[FIRST + m] = sigma.members[m];
}

void ComputeRaceSigma::compute_peratom()
{
  invoked_peratom = update->ntimestep;
  const Sigma &sigma = told();
  if (atom->nmax > nmax) {
    nmax = atom->nmax;
    memory->destroy(array_atom);
    memory->create(array_atom, nmax, size_peratom_cols, "race/sigma:array_atom");
  }
  for (int i = 0; i < atom->nlocal; i++) {
    const bool in = atom->mask[i] & groupbit;
    array_atom[i][0] = in ? sigma.principal[i] : 0.0;
    array_atom[i][1] = in ? sigma.energies[i] : 0.0;
  }
}

double ComputeRaceSigma::memory_usage()
{
  return (double) nmax * size_peratom_cols * sizeof(double);
}
