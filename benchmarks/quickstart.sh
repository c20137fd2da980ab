#!/usr/bin/env bash
# From nothing to the first monitored run, as a newcomer does it: an empty folder, an environment of its own, two commands. Prints the seconds
# of each. Usage: bash benchmarks/quickstart.sh [PYTHON]
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${1:-python3}" -m venv "$work/env"
cp "$source/constraints.txt" "$work"
git clone --quiet "$source" "$work/source"
mkdir "$work/empty"
cd "$work/empty"
export PATH="$work/env/bin:$PATH"
began=$(date +%s)
pip install --quiet --constraint "$work/constraints.txt" "$work/source"
installed=$(date +%s)
race-calc demo > demo.log
ended=$(date +%s)
tail -n 4 demo.log
echo "pip install: $((installed - began)) s, race-calc demo: $((ended - installed)) s, together $((ended - began)) s"
du -sm "$work"/env/lib/python*/site-packages/race_calc | awk '{print "installed package: " $1 " MB"}'
