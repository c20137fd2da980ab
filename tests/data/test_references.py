import json
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from race_calc.data.dataset import dataset_from_atoms, read_dataset
from race_calc.data.references import References, fit_references, read_isolated_atoms

E0 = {1: -13.6, 6: -1030.0, 8: -2042.0}


def frame(symbols, energy, forces=0.0):
    atoms = Atoms(symbols)
    atoms.positions[:, 0] = np.arange(len(atoms))
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.full((len(atoms), 3), forces))
    return atoms


def dataset(formulas, shift=0.0, forces=0.0):
    energy = [sum(E0[z] + shift for z in Atoms(f).numbers) for f in formulas]
    return dataset_from_atoms([frame(f, e, forces) for f, e in zip(formulas, energy)])


def test_isolated_atoms_give_shift_and_scale():
    data = dataset(["H2O", "CH4", "CO2"], shift=-0.25, forces=2.0)
    references = fit_references(data, E0 | {7: -1485.0})  # nitrogen is not in the data
    assert references.species == (1, 6, 8) and references.energies == tuple(E0.values())
    assert references.shift == pytest.approx(-0.25, abs=1e-10)
    assert references.scale == pytest.approx(2.0)
    numbers = [8, 1, 1]
    expected = [E0[8] - 0.25, E0[1] - 0.25, E0[1] - 0.25]
    np.testing.assert_allclose(references.per_atom(numbers), expected, rtol=1e-14)
    assert references.reference_energy(numbers) == pytest.approx(data.energy[0], abs=1e-9)
    assert references.per_atom([]).shape == (0,) and references.reference_energy([]) == 0.0


def test_least_squares_finds_atomic_energies():
    data = dataset(["H2O", "CH4", "CO2", "H2"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        references = fit_references(data)
    np.testing.assert_allclose(references.energies, list(E0.values()), rtol=1e-10)
    assert references.shift == pytest.approx(0.0, abs=1e-9)


def test_shift_is_the_mean_over_structures_of_the_residual_per_atom():
    data = dataset_from_atoms([frame("H2", 2 * (E0[1] + 1.0)), frame("H8", 8 * (E0[1] + 2.0))])
    assert fit_references(data, E0).shift == pytest.approx(1.5)


def test_single_molecule_warns_and_takes_the_minimum_norm():
    data = dataset(["H2O", "H2O"])
    with pytest.warns(UserWarning, match="fix only 1 of 2 element energies .H, O.") as warned:
        references = fit_references(data)
    assert warned[0].filename == __file__  # the line of the caller
    counts = np.array([2.0, 1.0])
    np.testing.assert_allclose(references.energies, counts * data.energy[0] / (counts @ counts))
    assert references.reference_energy([8, 1, 1]) == pytest.approx(data.energy[0], abs=1e-9)


def test_what_compositions_leave_open_is_stored_and_told():
    with pytest.warns(UserWarning, match="fix only 2 of 3"):
        references = fit_references(dataset(["H2O", "H4O2", "CO2", "CO2"]))
    assert len(references.undetermined) == 1
    free = {formula: references.leaves_free(Atoms(formula).numbers) for formula in ("H2O", "C2O4", "CH2O3", "H3O", "O", "CO", "CH4")}
    assert [formula for formula, yes in free.items() if yes] == ["H3O", "O", "CO", "CH4"]
    back = References.from_dict(json.loads(json.dumps(references.to_dict())))
    assert back.undetermined == references.undetermined
    known = fit_references(dataset(["H2O"]), E0)
    assert known.undetermined == () and not known.leaves_free([8]) and "undetermined" not in known.to_dict()
    with pytest.raises(ValueError, match="rows of 3 finite numbers"):
        References.from_dict(references.to_dict() | {"undetermined": [[1.0, 0.0]]})


def test_zero_forces_give_unit_scale():
    assert fit_references(dataset(["H2", "O2"], forces=0.0)).scale == 1.0


def test_unknown_elements():
    references = fit_references(dataset(["H2", "O2"]))
    for call in (references.per_atom, references.reference_energy):
        with pytest.raises(ValueError, match="no energy reference for C, Xe: this model knows H, O"):
            call([6, 1, 54])
    with pytest.raises(ValueError, match=r"isolated atoms lack C \(present: H, O\)"):
        fit_references(dataset(["CH4"]), {1: E0[1], 8: E0[8]})


def test_json_round_trip():
    references = fit_references(dataset(["H2", "O2"], forces=0.3), E0)
    assert References.from_dict(json.loads(json.dumps(references.to_dict()))) == references
    for wrong in ({}, references.to_dict() | {"species": 3}, references.to_dict() | {"species": [8, 1]}):
        with pytest.raises(ValueError, match="stored references"):
            References.from_dict(wrong)


def test_isolated_atoms_file(tmp_path):
    path = tmp_path / "atoms.xyz"
    write(path, [frame("H", -13.6), frame("C", -1030.0)])
    assert read_isolated_atoms(path) == {1: -13.6, 6: -1030.0}
    write(path, [frame("H2", -30.0), frame("H", -13.6), frame("C", -1030.0)])  # among structures to learn from
    assert read_isolated_atoms(path) == {1: -13.6, 6: -1030.0}
    for frames, message in (
        ([frame("H2", -30.0)], "has no frame of one atom"),
        ([Atoms("H")], "frame 0 .*H. has no finite energy"),
        ([frame("H", -13.6), frame("H", -13.7)], "frame 1 .* gives H a second time"),
    ):
        write(path, frames)
        with pytest.raises(ValueError, match=message):
            read_isolated_atoms(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_isolated_atoms(tmp_path / "absent.xyz")
    path.write_text("")
    with pytest.raises(ValueError, match="ASE cannot read"):
        read_isolated_atoms(path)


def test_3bpa(shared_data):
    """Method, section 1: E - sum E0(isolated) = -131.57 +- 0.165 eV."""
    data = read_dataset(shared_data / "3bpa" / "train_300K.xyz")
    isolated = read_isolated_atoms(shared_data / "3bpa" / "iso_atoms.xyz")
    binding = data.energy - [sum(isolated[z] for z in a.numbers) for a in data.structures]
    assert binding.mean() == pytest.approx(-131.57, abs=0.005)
    assert binding.std() == pytest.approx(0.165, abs=0.001)
    references = fit_references(data, isolated)
    assert references.shift == pytest.approx(-131.57 / 27, abs=1e-3)
    assert references.scale == pytest.approx(0.95, abs=0.01)
    rest = data.energy - [references.reference_energy(a.numbers) for a in data.structures]
    assert abs(rest.mean()) < 1e-9


def test_the_heaviest_element_is_counted():
    frames = [frame("H", 1.0), frame("Og", 5.0)]
    assert fit_references(dataset_from_atoms(frames)).energies == pytest.approx((1.0, 5.0))
