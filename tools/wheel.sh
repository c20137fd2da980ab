#!/usr/bin/env bash
# Is what `pip install` brings whole? An sdist, a wheel from it, and that in a clean environment: in an empty folder, with no compiler on the
# PATH, models by name, the kernels, a short demo. Usage: bash tools/wheel.sh PYTHON (whose packages it sees, but for this one)
set -euo pipefail
python=$(realpath -s "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap '/bin/rm -rf "$work"' EXIT
"$python" -W ignore setup.py --quiet sdist --dist-dir "$work" egg_info --egg-base "$work" 2> /dev/null
"$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work" "$work"/race_calc-*.tar.gz
"$python" -m venv "$work/env"
"$python" -c "import site; print(site.getsitepackages()[0])" > "$(echo "$work"/env/lib/python*/site-packages)/beside.pth"
"$work/env/bin/python" -m pip install --quiet --no-deps "$work"/race_calc-*.whl
mkdir "$work/empty" "$work/bin"
cd "$work/empty"
export PATH="$work/bin"
"$work/env/bin/race-calc" models
"$work/env/bin/race-calc" demo --steps 60 > "$work/demo.log"
"$work/env/bin/python" - "$work/env" <<'EOF'
import sys
from pathlib import Path

import race_calc
from ase.build import bulk

home = Path(race_calc.__file__).parent
assert home.is_relative_to(sys.argv[1]), home
atoms = bulk("Si", cubic=True)
atoms.calc = race_calc.RACECalculator("silicon", compile=True)  # True: fails without the kernels
assert abs(atoms.get_potential_energy() / 8 + 5.42) < 0.05
size = sum(path.stat().st_size for path in home.rglob("*") if path.is_file() and path.suffix != ".pyc") / 1e6
assert size < 60, size
print(f"installed: {size:.1f} MB, with kernels and models")
EOF
/usr/bin/ls -l "$work"/*.whl "$work"/*.tar.gz | /usr/bin/awk '{printf "%s: %.1f MB\n", $9, $5 / 1e6}' | /usr/bin/sed 's|.*/||'
