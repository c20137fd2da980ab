"""race.h in stages: a structure divided among ranks, features and gradients of ghosts exchanged, against the whole in one call."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from in_c import GEOMETRY, OK, ORDER, PAIRS, Model, results_of, structure_of

from race_calc.data.graph import from_atoms
from race_calc.interfaces.export import export
from race_calc.posterior.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("kernels")


class Rank:
    """Atoms of its own first, then the ghosts that their pairs need: a copy for each atom of another rank, and for each image."""

    def __init__(self, model, graph, own, of_members):
        self.model = model
        place = {atom: q for q, atom in enumerate(own)}
        self.source, numbers, first, neighbour, vectors = list(own), [graph.numbers[i] for i in own], [0], [], []
        for i in own:
            for e in range(graph.first_edge[i], graph.first_edge[i + 1]):
                j = int(graph.edge_index[1][e])
                inside = j in place and np.abs(graph.positions[j] - graph.positions[i] - graph.edge_vectors[e]).max() < 1e-9
                if not inside:
                    self.source.append(j)
                    numbers.append(graph.numbers[j])
                neighbour.append(place[j] if inside else len(self.source) - 1)
                vectors.append(graph.edge_vectors[e])
            first.append(len(neighbour))
        lists = {"numbers": numbers, "first": first, "neighbour": neighbour}
        self.arrays = {name: np.array(values, dtype=np.int64) for name, values in lists.items()} | {
            "vectors": np.array(vectors, dtype=float)
        }
        self.own, self.source = np.array(own, dtype=int), np.array(self.source, dtype=int)
        n, ghosts = len(self.source), len(self.source) - len(own)
        self.found = model.room(len(own), n, of_members)
        self.structure, self.results = structure_of(n, self.arrays, ghosts), results_of(self.found, of_members)
        self.stages, self.message = ctypes.c_void_p(), ctypes.create_string_buffer(256)
        self.status = model.library.race_begin(
            model.pointer, ctypes.byref(self.structure), ctypes.byref(self.results), ctypes.byref(self.stages), self.message
        )
        self.ghosts = np.arange(len(own), n)

    def stage(self, name, trunk, layer):
        function = getattr(self.model.library, f"race_{name}")
        return function(self.stages, ctypes.c_int64(trunk), ctypes.c_int64(layer), self.message)

    def move(self, name, layer, atoms, buffer):
        atoms = np.ascontiguousarray(atoms, dtype=np.int64)
        buffer = np.ascontiguousarray(buffer)
        function = getattr(self.model.library, f"race_{name}")
        function.restype = None
        function(
            self.stages,
            ctypes.c_int64(layer),
            ctypes.c_int64(len(atoms)),
            ctypes.c_void_p(atoms.ctypes.data),
            ctypes.c_void_p(buffer.ctypes.data),
        )
        return buffer

    def width(self, kind, layer):
        function = getattr(self.model.library, f"race_{kind}_width")
        function.restype = ctypes.c_int64
        return function(self.stages, ctypes.c_int64(layer))

    def end(self):
        self.model.library.race_end(self.stages)


def exchange(ranks, layer, n):
    """Features of every atom from its owner to all its ghosts."""
    everywhere = np.full((n, ranks[0].width("feature", layer)), np.nan)
    for rank in ranks:
        everywhere[rank.own] = rank.move("pack_features", layer, np.arange(len(rank.own)), np.zeros((len(rank.own), everywhere.shape[1])))
    for rank in ranks:
        rank.move("put_features", layer, rank.ghosts, everywhere[rank.source[rank.ghosts]])


def exchange_back(ranks, layer, n):
    """Gradients of every ghost to the owner of its atom."""
    everywhere = np.zeros((n, ranks[0].width("gradient", layer)))
    for rank in ranks:
        found = rank.move("pack_gradients", layer, rank.ghosts, np.zeros((len(rank.ghosts), everywhere.shape[1])))
        np.add.at(everywhere, rank.source[rank.ghosts], found)
    for rank in ranks:
        rank.move("add_gradients", layer, np.arange(len(rank.own)), everywhere[rank.own])


def in_stages(model, atoms, parts, of_members, backward=True):
    """The results of the whole, of as many ranks as there are parts."""
    graph, n, info = from_atoms(atoms, model.info.cutoff), len(atoms), model.info
    ranks = [Rank(model, graph, list(part), of_members) for part in parts]
    assert all(rank.status == OK for rank in ranks), [rank.message.value for rank in ranks]
    for trunk in range(info.trunks):
        for layer in range(info.layers):
            if layer:
                exchange(ranks, layer, n)
            assert all(rank.stage("forward", trunk, layer) == OK for rank in ranks)
        for layer in reversed(range(info.layers)):
            assert all(rank.stage("backward", trunk, layer) == OK for rank in ranks)
            if layer:
                exchange_back(ranks, layer, n)
    whole = model.room(n, n, of_members)
    for name in ("energies", "variances", "virials"):
        whole[name] = sum(rank.found[name] for rank in ranks)
    whole["forces"][:] = 0.0
    for rank in ranks:
        for row, of_row in zip(whole["forces"], rank.found["forces"]):
            np.add.at(row, rank.source, of_row)
        own = len(rank.own)
        whole["atom_energies"][:, rank.own] = rank.found["atom_energies"]
        whole["log_covariances"][:, rank.own] = rank.found["log_covariances"][:, :own]
        whole["features"][rank.own] = rank.found["features"][:own]
        rank.end()
    return whole


@pytest.mark.parametrize("of_members", [True, False])
@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_a_divided_crystal_of_members_of_their_own(tmp_path, tiny_model, ranks, of_members):
    """Also with atoms closer than the repulsion reaches; one rank has its images as ghosts."""
    path = tmp_path / "tiny.race"
    export(load_checkpoint(tiny_model, calibration=False), path)
    model, atoms = Model(path), bulk("C", a=3.2, cubic=True)
    atoms.rattle(0.1, seed=1)
    parts = np.array_split(np.random.default_rng(ranks).permutation(len(atoms)), ranks)
    found, expected = in_stages(model, atoms, parts, of_members), model.evaluate(atoms, of_members)[2]
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-11 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_divided_molecule_of_draws_on_one_trunk(tmp_path, dtype):
    path = tmp_path / "llpr.race"
    export(load_checkpoint("models/3bpa-llpr", calibration=False), path, dtype)
    model, atoms = Model(path), molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=2)
    found, expected = in_stages(model, atoms, [[0, 3, 4], [1, 2, 8, 7, 6, 5]], True), model.evaluate(atoms)[2]
    for name, value in expected.items():
        tolerance = (1e-11 if dtype == torch.float64 else 1e-5) * np.abs(value).max()
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance, err_msg=name)


def test_a_rank_without_atoms_of_its_own(tmp_path, tiny_model):
    """Such as one that has the vacuum beside a slab."""
    path = tmp_path / "tiny.race"
    export(load_checkpoint(tiny_model, calibration=False), path)
    model, atoms = Model(path), bulk("C", a=3.2, cubic=True)
    atoms.rattle(0.1, seed=1)
    found, expected = in_stages(model, atoms, [range(3), [], range(3, 8)], False), model.evaluate(atoms, False)[2]
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-11 * np.abs(value).max(), err_msg=name)


@pytest.mark.nightly
def test_memory_that_is_not_clean(tmp_path):
    """More pairs than are kept from one stage to the next; what the allocator gives is filled with rubbish."""
    export(load_checkpoint("models/silicon", calibration=False), tmp_path / "silicon.race")
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from ase.build import bulk
from in_c import Model
from test_race_stages import in_stages
import numpy as np
model, atoms = Model({str(tmp_path / "silicon.race")!r}), bulk("Si", cubic=True) * (4, 4, 4)
atoms.rattle(0.05, seed=1)
found, expected = in_stages(model, atoms, [range(200), range(200, 512)], False), model.evaluate(atoms, False)[2]
assert np.abs(found["forces"] - expected["forces"]).max() < 1e-10
"""
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"MALLOC_PERTURB_": "85"})


def test_stages_out_of_turn_and_structures_that_are_none(tmp_path, tiny_model):
    path = tmp_path / "tiny.race"
    export(load_checkpoint(tiny_model, calibration=False), path)
    model, atoms = Model(path), molecule("CH4")
    atoms.numbers[:] = 6
    graph = from_atoms(atoms, model.info.cutoff)
    rank = Rank(model, graph, [0, 1], False)
    assert rank.stage("backward", 0, 0) == ORDER and b"the next stage is trunk 0, layer 0, forward" in rank.message.value
    assert rank.stage("forward", 0, 0) == OK and rank.stage("forward", 0, 0) == ORDER
    assert b"trunk 0, layer 1, forward" in rank.message.value
    rank.end()
    status, message, _ = model.evaluate(atoms, change=lambda arrays: None)
    assert (status, message) == (OK, "")
    ghosts = structure_of(5, rank.arrays | {"numbers": np.full(5, 6)}, 3)
    found = results_of(model.room(2, 5, False), False)
    message = ctypes.create_string_buffer(256)
    assert model.library.race_evaluate(model.pointer, ctypes.byref(ghosts), ctypes.byref(found), 1, message) == PAIRS
    assert b"needs race_begin" in message.value
    for wrong in (6, -1):
        stages, none = ctypes.c_void_p(), structure_of(5, rank.arrays, wrong)
        begin = model.library.race_begin(model.pointer, ctypes.byref(none), ctypes.byref(found), ctypes.byref(stages), message)
        assert begin == GEOMETRY and not stages.value
