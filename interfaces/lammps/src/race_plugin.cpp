/* pair_style race and compute race/sigma as a plugin, and where it refuses to be loaded.
 *
 * SPDX-License-Identifier: GPL-2.0-only
 */
#include "plugin_abi.h"

#include "compute_race_sigma.h"
#include "error.h"
#include "lammps.h"
#include "pair_race.h"

#include <string>

#ifndef RACE_LAMMPS_VERSION
#error "say which LAMMPS this is built for: -DRACE_LAMMPS_VERSION=20250722"
#endif

using namespace LAMMPS_NS;

static void *create_pair(void *lammps)
{
  return static_cast<Pair *>(new PairRace(static_cast<LAMMPS *>(lammps)));
}

static void *create_compute(void *lammps, int narg, char **arg)
{
  return static_cast<Compute *>(new ComputeRaceSigma(static_cast<LAMMPS *>(lammps), narg, arg));
}

/* why this LAMMPS cannot use the plugin; "" if it can */
static std::string misfit(void *lammps)
{
  const std::string built = std::to_string(RACE_LAMMPS_VERSION), found = std::to_string(lammps_version(lammps));
  if (built != found) return "it was built for LAMMPS " + built + " and this is " + found + ": build it again";
  if (lammps_extract_setting(lammps, "tagint") != (int) sizeof(tagint) || lammps_extract_setting(lammps, "imageint") != (int) sizeof(imageint))
    return "its integers have another size than those of this LAMMPS (SMALLBIG, BIGBIG): build it again";
  for (const char *package : {"GPU", "KOKKOS", "INTEL"})
    if (lammps_config_accelerator(package, "precision", "single"))
      return std::string("this LAMMPS is built in single precision (") + package + "): forces of a model need double";
  return "";
}

void lammpsplugin_init(void *lammps, void *handle, void *registration)
{
  const std::string problem = misfit(lammps);
  auto lmp = static_cast<LAMMPS *>(lammps);
  // the only C++ of another LAMMPS that is used: the place of `error`, the same since there are plugins
  if (!problem.empty()) lmp->error->all(FLERR, "the plugin of pair_style race cannot be used: " + problem);
  race_plugin plugin = {lmp->version, "pair", "race", "pair_style race", "race_calc", {&create_pair}, handle};
  ((race_register) registration)(&plugin, lammps);
  plugin.style = "compute", plugin.name = "race/sigma", plugin.info = "compute race/sigma";
  plugin.creator.with_arguments = &create_compute;
  ((race_register) registration)(&plugin, lammps);
}
