"""Graph: made from ASE structures, joined to batches."""

import dataclasses

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list

from race_calc.data.graph import average_neighbours, batches, collate, from_atoms
from race_calc.model.config import ModelConfig
from race_calc.model.layout import Numerics
from race_calc.model.plan import make_plan
from race_calc.model.race import Race, layout_of

CUTOFF = 4.0


def structures() -> list[Atoms]:
    slab = Atoms("HC", positions=[[0, 0, 0], [1, 1, 1]], cell=[3, 3.5, 0], pbc=[True, True, False])
    return [molecule("H2O"), bulk("Cu", a=3.6), Atoms("C"), slab]


def sorted_rows(rows) -> np.ndarray:
    return rows[np.lexsort(np.round(rows, 9).T)]


@pytest.mark.parametrize("k", range(4))
def test_fields(k):
    atoms = structures()[k]
    graph = from_atoms(atoms, CUTOFF)
    n, edges = len(atoms), graph.edge_index.shape[1]
    assert (graph.n_atoms, graph.n_structures) == (n, 1)
    shapes = {
        "numbers": (n,),
        "positions": (n, 3),
        "cell": (1, 3, 3),
        "pbc": (1, 3),
        "edge_index": (2, edges),
        "shifts": (edges, 3),
        "batch": (n,),
        "ptr": (2,),
    }
    assert {name: getattr(graph, name).shape for name in shapes} == shapes
    assert (graph.numbers == atoms.numbers).all() and (graph.positions == atoms.positions).all()
    np.testing.assert_allclose(sorted_rows(graph.edge_vectors), sorted_rows(neighbor_list("D", atoms, CUTOFF)), atol=1e-12)


def test_volume():
    volumes = [from_atoms(atoms, CUTOFF).volume[0] for atoms in structures()]
    assert volumes == pytest.approx([0, 3.6**3 / 4, 0, 0])
    in_a_box = molecule("H2O", cell=[9, 9, 9])  # a cell, but not periodic
    assert from_atoms(in_a_box, CUTOFF).volume == [0]
    left_handed = Atoms("C", cell=[[0, 3, 0], [3, 0, 0], [0, 0, 3]], pbc=True)
    assert from_atoms(left_handed, CUTOFF).volume == pytest.approx([27])


def test_collate():
    graphs = [from_atoms(atoms, CUTOFF) for atoms in structures()]
    batch = collate(graphs)
    assert batch.n_structures == 4 and batch.n_atoms == 3 + 1 + 1 + 2
    assert batch.ptr.tolist() == [0, 3, 4, 5, 7]
    assert batch.batch.tolist() == [0, 0, 0, 1, 2, 3, 3]
    np.testing.assert_array_equal(batch.edge_vectors, np.concatenate([g.edge_vectors for g in graphs]))
    np.testing.assert_array_equal(batch.volume, np.concatenate([g.volume for g in graphs]))
    centre, neighbour = batch.edge_index
    assert (batch.batch[centre] == batch.batch[neighbour]).all()
    assert (np.diff(centre) >= 0).all()


def test_collate_of_batches_is_collate_of_all():
    graphs = [from_atoms(atoms, CUTOFF) for atoms in structures()]
    nested, flat = collate([collate(graphs[:2]), collate(graphs[2:])]), collate(graphs)
    for field in dataclasses.fields(flat):
        np.testing.assert_array_equal(getattr(nested, field.name), getattr(flat, field.name))
    assert collate(graphs[:1]) is graphs[0]


def test_graph_is_frozen_and_its_own_copy():
    atoms = bulk("Cu", a=3.6)
    graph = from_atoms(atoms, CUTOFF)
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.positions = None
    positions, cell, pbc = graph.positions.copy(), graph.cell.copy(), graph.pbc.copy()
    atoms.positions += 1
    atoms.cell *= 2
    atoms.pbc = False
    atoms.numbers[:] = 1
    assert (graph.positions == positions).all() and (graph.cell == cell).all() and (graph.pbc == pbc).all()
    assert graph.numbers.tolist() == [29]


@pytest.mark.parametrize(
    "atoms, message",
    [
        (Atoms(), "no atoms"),
        (Atoms("C", positions=[[0, 0, np.nan]]), "not finite"),
        (Atoms("C2", positions=np.zeros((2, 3))), "one place"),
        (Atoms("C", pbc=True), "vector is zero"),
    ],
)
def test_bad_structures(atoms, message):
    with pytest.raises(ValueError, match=message):
        from_atoms(atoms, CUTOFF)


def test_average_neighbours():
    assert average_neighbours([from_atoms(bulk("Cu", a=3.6), 3.0)]) == 12
    assert average_neighbours([from_atoms(bulk("Cu", a=3.6), 3.0), from_atoms(Atoms("C"), 3.0)]) == 6
    assert average_neighbours([from_atoms(Atoms("C"), 3.0)]) == 1  # never divide by zero


@pytest.mark.parametrize("symbols, unknown", [("HCN", "N"), ("HOg", "Og"), ("NFH", "F, N")])
def test_an_unknown_element_is_named(symbols, unknown):
    model = Race(make_plan(ModelConfig(layers=1), 2), (1, 6), 1.0, 1.0)
    atoms = Atoms(symbols)
    atoms.positions[:, 0] = np.arange(len(atoms))
    with pytest.raises(ValueError, match=rf"does not know the elements? {unknown}; it was trained on H, C"):
        layout_of(model, from_atoms(atoms, CUTOFF), Numerics(torch.float64, torch.device("cpu")))


def test_batches_are_filled_up_to_the_limit():
    graphs = [from_atoms(Atoms(f"H{n}", np.arange(3 * n).reshape(n, 3)), 1.0) for n in (2, 2, 3, 1, 9, 1)]
    assert [len(g.ptr) - 1 for g in batches(graphs, 4)] == [2, 2, 1, 1]
    assert [g.n_atoms for g in batches(graphs, 4)] == [4, 4, 9, 1]
    assert [g.n_atoms for g in batches(graphs, 3)] == [2, 2, 3, 1, 9, 1]
