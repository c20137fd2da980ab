/* The uncertainty of a step, where a compute asks for it.
 *
 * SPDX-License-Identifier: GPL-2.0-only
 */
#include "atom.h"
#include "comm.h"
#include "pair_race.h"
#include "update.h"

#include <cmath>

using namespace LAMMPS_NS;

/* standard deviation between the members of each atom's energy, (own,) eV; values (M, own) */
static std::vector<double> spread_of_atoms(const std::vector<double> &values, int64_t members, int64_t own)
{
  std::vector<double> found(own);
  for (int64_t i = 0; i < own; i++) {
    double mean = 0, square = 0;
    for (int64_t m = 0; m < members; m++) mean += values[m * own + i] / (double) members;
    for (int64_t m = 0; m < members; m++) square += pow(values[m * own + i] - mean, 2) / (double) members;
    found[i] = sqrt(square);
  }
  return found;
}

void PairRace::tell()
{
  const int64_t n = (int64_t) around.numbers.size(), own = around.own, members = info.members;
  const std::vector<double> &at_home = comm->nprocs > 1 ? whole : forces;
  const double *logs = log_covariances.empty() ? nullptr : log_covariances.data();
  std::vector<double> between(9 * own), predicted(9 * own), total(9 * own), variance(n), nearby(own);
  race_spread(model, own, n, at_home.data(), logs, between.data(), predicted.data());
  for (int64_t i = 0; i < own; i++) variance[i] = (between[9 * i] + between[9 * i + 4] + between[9 * i + 8]) / 3;
  if (comm->nprocs > 1) {
    travel.begin(atom->nlocal, atom->nghost, 1);
    travel.read = [&](int i, double *row) { row[0] = variance[i]; };
    comm->forward_comm(this, 1);
    for (size_t k = 0; k < around.ghosts.size(); k++) variance[own + k] = travel.row(around.ghosts[k])[0];
  }
  const race_structure structure = around.structure();
  race_nearby(model, &structure, variance.data(), nearby.data());
  race_covariance(model, 1, own, around.numbers.data(), between.data(), predicted.data(), nearby.data(), total.data());
  told.principal.resize(own), told.component.resize(own);
  race_principal(own, total.data(), told.principal.data());
  for (int64_t i = 0; i < own; i++) {
    told.principal[i] *= unit;
    told.component[i] = unit * unit * (total[9 * i] + total[9 * i + 4] + total[9 * i + 8]) / 3;
  }
  told.energies = spread_of_atoms(atom_energies, members, own);
  for (double &one : told.energies) one *= unit;

  // sums over ranks: energies, variances, features, and what else the variance of the energy needs
  const size_t length = info.closed_form ? info.features : 0;
  std::vector<double> part(2 * members + length + 2), sum(part.size());
  for (int64_t m = 0; m < members; m++) part[m] = energies[m], part[members + m] = variances.empty() ? 0.0 : variances[m];
  for (int64_t i = 0; i < own; i++)
    for (size_t k = 0; k < length; k++) part[2 * members + k] += features[i * length + k];
  part[part.size() - 2] = race_energy_around(model, own, between.data(), nearby.data());
  part[part.size() - 1] = (double) own;
  MPI_Allreduce(part.data(), sum.data(), (int) part.size(), MPI_DOUBLE, MPI_SUM, world);
  const double *of_variances = info.has_variance ? &sum[members] : nullptr, *of_features = length ? &sum[2 * members] : nullptr;
  const int64_t atoms = (int64_t) sum.back();
  told.energy = unit * sqrt(race_energy_variance(model, 1, atoms, sum.data(), of_variances, of_features, sum[sum.size() - 2]));
  told.members.assign(sum.begin(), sum.begin() + members);
  for (double &one : told.members) one *= unit;
  told.step = update->ntimestep;
}
