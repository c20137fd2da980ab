"""Which flagged frames are saved: those that are apart in time and shape, and the halting one."""

import pytest
from ase import Atoms, units
from ase.io import read
from ase.md.verlet import VelocityVerlet
from fake_calculator import water

from race_calc import Criterion, UncertaintyMonitor
from race_calc.md.saving import SavedFrames, Spacing

FORCE = "forces_uncertainty_max_epistemic"


def test_saved_frames_keep_their_distance():
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1]])
    saved = SavedFrames(Spacing(time=5.0, distance=0.1, most=3))
    assert saved.admit(None, atoms, 0.0)
    assert not saved.admit(None, atoms, 100.0)  # the same structure
    atoms.positions += 3.0
    assert not saved.admit(None, atoms, 100.0)  # moved as a whole
    atoms.positions[1, 2] += 0.3
    assert not saved.admit(None, atoms, 4.0) and saved.admit(None, atoms, 6.0)
    assert saved.admit(1, atoms, 6.0)  # another image
    atoms.positions[1, 2] += 0.3
    assert not saved.admit(None, atoms, 20.0)  # three are saved
    assert saved.admit(None, atoms, 20.0, always=True)
    with pytest.raises(ValueError, match="≥ 0"):
        Spacing(time=-1.0)


def test_a_halting_frame_is_saved_although_it_is_flagged_and_near(tmp_path):
    flagged, dyn = tmp_path / "flagged.xyz", VelocityVerlet(water(), 0.5 * units.fs)
    criteria = [Criterion(FORCE, 0.0, "flag"), Criterion("forces_uncertainty_rms_epistemic", 0.0, "halt", 3)]
    UncertaintyMonitor(dyn, criteria, flagged=flagged, spacing=Spacing(distance=10.0))
    dyn.run(20)
    assert [frame.info["step"] for frame in read(flagged, ":")] == [1, dyn.nsteps] == [1, 3]  # at step 0 the members agree


def test_the_stated_spacing_and_its_limits():
    assert Spacing() == Spacing(time=5.0, distance=0.05, most=1000)
    assert Spacing(0.0, 0.0, 0).most == 0
    for wrong in (dict(time=-1.0), dict(distance=-1.0), dict(most=-1)):
        with pytest.raises(ValueError, match="≥ 0|at least 0"):
            Spacing(**wrong)
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1]])
    saved = SavedFrames(Spacing(time=5.0, distance=0.0))
    assert [saved.admit(None, atoms, time) for time in (10.0, 14.9, 15.0, 3.0)] == [True, False, True, True]  # a clock set back
    assert saved.admit(None, atoms, None)  # an optimiser has no clock
    moved = Atoms("H2", [[0, 0, 0], [0, 0, 1.2]])  # root mean square displacement 0.1, each atom less the mean
    between = SavedFrames(Spacing(0.0, 0.05))  # far from one saved frame is not enough
    assert [between.admit(None, frame, time) for time, frame in enumerate((atoms, moved, atoms, moved))] == [True, True, False, False]
    near, far = SavedFrames(Spacing(0.0, 0.101)), SavedFrames(Spacing(0.0, 0.099))
    assert [near.admit(None, atoms, 0.0), near.admit(None, moved, 1.0)] == [True, False]
    assert [far.admit(None, atoms, 0.0), far.admit(None, moved, 1.0)] == [True, True]
