"""`race-calc learn` killed at twenty random moments: it ends as if it had not been, and no label is lost or bought twice."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from ase.io import read, write
from small_run import frame, write_run
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.data.hashes import geometry_hash

KILLS = 20
PROGRAM = """
from race_calc.cli import app
from race_calc.learning import continual, on_the_fly

continual.FEW, on_the_fly.TURN = 0.5, 60  # a potential that is easily frightened, and short turns
app()
"""
BOUGHT = """
from ase.calculators.emt import EMT
from race_calc.data.hashes import geometry_hash

class Counting(EMT):
    def calculate(self, atoms=None, *arguments, **kwargs):
        super().calculate(atoms, *arguments, **kwargs)
        with open("bought.txt", "a") as file:
            file.write(geometry_hash(atoms) + "\\n")

def emt():
    return Counting()
"""


def started(folder, out):
    command = [sys.executable, "-c", PROGRAM, "learn", "learn.yaml", "--out", out]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # with more the sums of a resumed training differ in their last bits
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def prepared(folder, processes):
    folder.mkdir()
    path = write_run(folder, training__epochs=30)
    done = CliRunner().invoke(app, ["train", str(path), "--out", str(folder / "model")])
    assert done.exit_code == 0, done.output
    (folder / "bought_emt.py").write_text(BOUGHT)
    write(folder / "begin.xyz", [frame(3)])
    exploration = {"replicas": 2, "picoseconds": 0.8, "temperatures": [300, 1500], "timestep": 2.0}
    content = {
        "model": "model",
        "data": ".",
        "reference": "bought_emt:emt",
        "structures": "begin.xyz",
        "epochs": 10,
        "processes": processes,
    }
    (folder / "learn.yaml").write_text(yaml.safe_dump(content | {"exploration": exploration, "labels_a_round": 4, "budget": {"rounds": 8}}))
    return folder


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_twenty_random_moments(tmp_path, processes):
    """With two, lessons run beside the other replica."""
    folder = prepared(tmp_path / "run", processes)
    output, _ = (whole := started(folder, "whole")).communicate()
    assert whole.returncode == 0, output
    (folder / "bought.txt").unlink()

    random, kills = np.random.default_rng(0), 0
    while True:
        process = started(folder, "parts")
        deadline = time.monotonic() + random.uniform(3.0, 9.0)
        while kills < KILLS and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if kills < KILLS and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        output, _ = process.communicate()
        assert process.returncode == 0, output
        break
    assert kills == KILLS

    states = [json.loads((folder / name / "learning.json").read_text()) for name in ("whole", "parts")]
    plain = [[{k: v for k, v in line.items() if k != "seconds"} for line in state["history"]] for state in states]
    assert plain[0] == plain[1] and states[0]["replicas"] == states[1]["replicas"] and states[0]["labels"] == states[1]["labels"] > 1
    rounds = sorted((folder / "parts" / "rounds").iterdir())
    labelled = [geometry_hash(atoms) for path in rounds if (path / "labelled.xyz").exists() for atoms in read(path / "labelled.xyz", ":")]
    bought = (folder / "bought.txt").read_text().split()
    assert len(set(labelled)) == len(labelled) == states[1]["labels"] - 1
    assert len(bought) - len(set(bought)) <= kills * processes  # what was at work at a kill is computed again, and nothing else
