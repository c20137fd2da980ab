/* pair_style race: a RACE potential whose ranks own parts of space.
 *
 * SPDX-License-Identifier: GPL-2.0-only
 */
#ifndef LMP_PAIR_RACE_H
#define LMP_PAIR_RACE_H
#include "neighbours.h"
#include "pair.h"
#include "race.h"
#include "sigma.h"
#include "travel.h"

#include <string>
#include <vector>

namespace LAMMPS_NS {

class PairRace : public Pair {
 public:
  PairRace(class LAMMPS *);
  ~PairRace() override;

  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void compute(int, int) override;
  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;
  double memory_usage() override;

  race_info about() const { return info; }
  const Sigma &sigma() const { return told; }    // of the last step at which a compute asked for it

 private:
  race_model *model;
  race_info info;
  double unit;                            // energy of LAMMPS in an eV
  std::string file;
  std::vector<int64_t> number_of_type;    // atomic numbers, from 1 on
  std::vector<int> home;                  // of each of LAMMPS' atoms the own one that it is or is an image of, or -1
  Neighbours around;
  Travel travel;
  Sigma told;
  std::vector<double> energies, atom_energies, forces, virials, variances, log_covariances, features;    // race_results
  std::vector<double> whole;    // forces of the members, those of copies at the own atoms too

  void load();
  void find_homes();
  bool wanted() const;
  race_results results(bool of_members);
  void evaluate(bool of_members);
  void in_stages(race_stages *);
  void forward(race_stages *, int64_t layer);
  void backward(race_stages *, int64_t layer);
  void gather_member_forces();
  void hand_over(bool of_members);
  void tell();
  void check(race_status, const char *message);
  void check_width(size_t width);
};

}    // namespace LAMMPS_NS
#endif
