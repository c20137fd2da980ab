/* The commands of pair_style race, and a step of it.
 *
 * SPDX-License-Identifier: GPL-2.0-only
 */
#include "pair_race.h"

#include "atom.h"
#include "comm.h"
#include "compute.h"
#include "domain.h"
#include "elements.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "modify.h"
#include "neighbor.h"
#include "update.h"

#include <cmath>
#include <cstring>

#ifdef __GLIBC__
#include <malloc.h>
#endif

using namespace LAMMPS_NS;

static constexpr double KCAL_PER_EV = 23.060548012069493;    // as race_calc (ase.units) has it
static constexpr int TRIES = 3;                              // of building neighbours, each a little wider
static constexpr double WIDER = 1e-9;                        // of the cutoff

PairRace::PairRace(LAMMPS *lmp) : Pair(lmp), model(nullptr), info(), unit(1.0)
{
  manybody_flag = 1;
  one_coeff = 1;
  single_enable = 0;
  restartinfo = 0;    // the model is in its file: an input gives pair_style and pair_coeff again after read_restart
  no_virial_fdotr_compute = 1;
  centroidstressflag = CENTROID_NOTAVAIL;
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, 2147483647);    // freed memory is kept for the next step
#endif
}

PairRace::~PairRace()
{
  race_free(model);
  if (allocated) memory->destroy(setflag), memory->destroy(cutsq);
}

/* pair_style race FILE */
void PairRace::settings(int narg, char **arg)
{
  if (narg != 1) error->all(FLERR, "pair_style race needs one argument, a file of `race-calc export c`");
  file = arg[0];
  load();
}

/* on every rank; all of them fail where one does */
void PairRace::load()
{
  char message[RACE_MESSAGE];
  race_free(model);
  const int failed = race_load(file.c_str(), &model, message) != RACE_OK;
  int first = failed ? comm->me : comm->nprocs, which;
  MPI_Allreduce(&first, &which, 1, MPI_INT, MPI_MIN, world);
  if (which < comm->nprocs) {
    MPI_Bcast(message, RACE_MESSAGE, MPI_CHAR, which, world);
    error->all(FLERR, "pair_style race {}: {}", file, message);
  }
  info = race_about(model);
  // the widest that goes from rank to rank: LAMMPS makes its buffers for it
  const int64_t first_pair = 0;
  const race_structure nothing = {0, nullptr, &first_pair, nullptr, nullptr, 0};
  double none[1];
  race_results to = {};
  to.of_members = 1, to.forces = none;
  race_stages *stages;
  check(race_begin(model, &nothing, &to, &stages, message), message);
  int64_t widest = 3 * info.members;
  for (int64_t i = 1; i < info.layers; i++) widest = MAX(widest, MAX(race_feature_width(stages, i), race_gradient_width(stages, i)));
  race_end(stages);
  comm_forward = comm_reverse = (int) widest;
}

/* pair_coeff * * H C N O; that it begins with * *, LAMMPS has checked (one_coeff) */
void PairRace::coeff(int narg, char **arg)
{
  const int types = atom->ntypes;
  if (narg != 2 + types)
    error->all(FLERR, "pair_style race: there are {} atom types and {} elements: give one for each, pair_coeff * * H C ...", types, narg - 2);
  std::string known;
  for (int64_t k = 0; k < info.n_elements; k++) known += std::string(k ? " " : "") + element_symbol(info.elements[k]);
  number_of_type.assign(types + 1, 0);
  for (int i = 1; i <= types; i++) {
    const int number = element_number(arg[i + 1]);
    bool there = false;
    for (int64_t k = 0; k < info.n_elements; k++) there = there || info.elements[k] == number;
    if (!there) error->all(FLERR, "pair_style race: the model of {} does not know {}; it knows {}", file, arg[i + 1], known);
    number_of_type[i] = number;
  }
  if (!allocated) {
    allocated = 1;
    memory->create(setflag, types + 1, types + 1, "pair:setflag");
    memory->create(cutsq, types + 1, types + 1, "pair:cutsq");
  }
  for (int i = 1; i <= types; i++)
    for (int j = i; j <= types; j++) setflag[i][j] = 1;
}

void PairRace::init_style()
{
  if (strcmp(update->unit_style, "metal") == 0) unit = 1.0;
  else if (strcmp(update->unit_style, "real") == 0) unit = KCAL_PER_EV;
  else error->all(FLERR, "pair_style race: units {} are not supported: use metal or real", update->unit_style);
  if (!force->newton_pair) error->all(FLERR, "pair_style race needs newton on");
  if (domain->dimension != 3) error->all(FLERR, "pair_style race needs dimension 3");
  if (atom->molecular != Atom::ATOMIC)
    for (int k = 1; k <= 3; k++)
      if (force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0)
        error->all(FLERR, "pair_style race needs all neighbors, and this atom style takes bonded ones out: special_bonds lj/coul 1 1 1");
  if (neighbor->nex_type || neighbor->nex_group || neighbor->nex_mol)
    error->all(FLERR, "pair_style race needs all neighbors: leave out neigh_modify exclude");
  neighbor->add_request(this, NeighConst::REQ_FULL);
  home.clear();
  told.step = -1;
}

double PairRace::init_one(int, int)
{
  return info.cutoff;
}

/* Owners tell their ghosts who they are; whoever hears of itself has an image of its own atom. */
void PairRace::find_homes()
{
  const int nlocal = atom->nlocal, nall = nlocal + atom->nghost;
  if (neighbor->ago != 0 && (int) home.size() == nall) return;
  home.resize(nall);
  travel.begin(nlocal, atom->nghost, 2);
  travel.read = [this](int i, double *row) { row[0] = comm->me, row[1] = i; };
  comm->forward_comm(this, 2);
  for (int i = 0; i < nlocal; i++) home[i] = i;
  for (int j = nlocal; j < nall; j++) home[j] = travel.row(j)[0] == comm->me ? (int) travel.row(j)[1] : -1;
}

/* does a compute ask for the uncertainty at this step? */
bool PairRace::wanted() const
{
  for (Compute *one : modify->get_compute_list())
    if (strcmp(one->style, "race/sigma") == 0 && one->matchstep(update->ntimestep)) return true;
  return false;
}

void PairRace::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  if (vflag_atom) error->all(FLERR, "pair_style race has no virial of each atom: leave out compute stress/atom");
  if (list->inum != atom->nlocal) error->all(FLERR, "pair_style race needs the neighbors of all atoms: leave out neigh_modify include");
  find_homes();
  const bool of_members = wanted();
  evaluate(of_members);
  if (of_members && comm->nprocs > 1) gather_member_forces();
  hand_over(of_members);
  if (of_members) tell();
}

/* One rank has all: one call, with LAMMPS' threads. Several: layer by layer. Of two images at the cutoff rounding may see one only. */
void PairRace::evaluate(bool of_members)
{
  char message[RACE_MESSAGE];
  race_status status = RACE_PAIRS;
  for (int k = 0; status == RACE_PAIRS && k < TRIES; k++) {
    const double cutoff = info.cutoff * (1 + k * WIDER);
    around.build(atom->nlocal, atom->nlocal + atom->nghost, atom->x, atom->type, list, home, number_of_type, cutoff);
    const race_structure structure = around.structure();
    const race_results to = results(of_members);
    if (comm->nprocs == 1) {
      if (!structure.atoms) return;
      status = race_evaluate(model, &structure, &to, comm->nthreads, message);
    } else {
      race_stages *stages;
      status = race_begin(model, &structure, &to, &stages, message);
      if (!status) in_stages(stages);
    }
  }
  check(status, message);
}

/* room for what the model gives: of_members: forces of every member, else their mean */
race_results PairRace::results(bool of_members)
{
  const size_t n = around.numbers.size(), own = around.own, m = info.members, rows = of_members ? m : 1;
  energies.assign(m, 0.0), forces.assign(rows * n * 3, 0.0), virials.assign(rows * 9, 0.0);
  atom_energies.assign(of_members || eflag_atom ? m * own : 0, 0.0);
  variances.assign(of_members && info.has_variance ? m : 0, 0.0);
  log_covariances.assign(of_members && info.has_covariance ? m * n * 9 : 0, 0.0);
  features.assign(of_members && info.closed_form ? n * info.features : 0, 0.0);
  race_results to = {};
  to.of_members = of_members;
  to.energies = energies.data(), to.forces = forces.data(), to.virials = virials.data();
  if (!atom_energies.empty()) to.atom_energies = atom_energies.data();
  if (!variances.empty()) to.variances = variances.data();
  if (!log_covariances.empty()) to.log_covariances = log_covariances.data();
  if (!features.empty()) to.features = features.data();
  return to;
}

/* forces, energy and virial of this rank's part, to LAMMPS */
void PairRace::hand_over(bool of_members)
{
  const int64_t n = (int64_t) around.numbers.size(), own = around.own, members = info.members, rows = of_members ? members : 1;
  double **f = atom->f;
  for (int64_t i = 0; i < n; i++) {
    double *to = f[i < own ? i : around.ghosts[i - own]];
    for (int a = 0; a < 3; a++) {
      double sum = 0;
      for (int64_t row = 0; row < rows; row++) sum += forces[(row * n + i) * 3 + a];
      to[a] += unit * sum / (double) rows;
    }
  }
  if (eflag_global)
    for (const double energy : energies) eng_vdwl += unit * energy / (double) members;
  if (eflag_atom)
    for (int64_t k = 0; k < members * own; k++) eatom[k % own] += unit * atom_energies[k] / (double) members;
  static const int place[6] = {0, 4, 8, 1, 2, 5};    // xx yy zz xy xz yz
  for (int k = 0; vflag_global && k < 6; k++)
    for (int64_t row = 0; row < rows; row++) virial[k] -= unit * virials[9 * row + place[k]] / (double) rows;
}

void PairRace::check(race_status status, const char *message)
{
  if (status) error->one(FLERR, "pair_style race: {}", message);
}

double PairRace::memory_usage()
{
  double numbers = Pair::memory_usage() / sizeof(double) + travel.rows.capacity();
  for (const auto *values : {&energies, &atom_energies, &forces, &virials, &variances, &log_covariances, &features, &around.vectors})
    numbers += (double) values->capacity();
  return numbers * sizeof(double);
}
