/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef RACE_ELEMENTS_H
#define RACE_ELEMENTS_H

namespace LAMMPS_NS {
int element_number(const char *symbol);            // 0: there is none
const char *element_symbol(long long number);      // from 1 to 118
}    // namespace LAMMPS_NS
#endif
