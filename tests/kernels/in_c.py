"""race.h through ctypes."""

import ctypes
from pathlib import Path

import numpy as np
from ase import Atoms

from race_calc.data.graph import from_atoms
from race_calc.model.kernels.build import library

OK, FILE, NEWER, ELEMENT, PAIRS, GEOMETRY, MEMORY, ORDER = range(8)


class Info(ctypes.Structure):
    _fields_ = [("members", ctypes.c_int64), ("features", ctypes.c_int64), ("cutoff", ctypes.c_double), ("n_elements", ctypes.c_int64)]
    _fields_ += [("elements", ctypes.POINTER(ctypes.c_int64)), ("has_variance", ctypes.c_int), ("has_covariance", ctypes.c_int)]
    _fields_ += [("trunks", ctypes.c_int64), ("layers", ctypes.c_int64), ("calibrated", ctypes.c_int), ("closed_form", ctypes.c_int)]


ARRAYS = ("numbers", "first", "neighbour", "vectors")


class Structure(ctypes.Structure):
    """`ghosts` of the atoms come last."""

    _fields_ = [("atoms", ctypes.c_int64), *((name, ctypes.c_void_p) for name in ARRAYS), ("ghosts", ctypes.c_int64)]


NAMES = ("energies", "atom_energies", "forces", "virials", "variances", "log_covariances", "features")


class Results(ctypes.Structure):
    _fields_ = [("of_members", ctypes.c_int), *((name, ctypes.c_void_p) for name in NAMES)]


class Model:
    """race.h through ctypes."""

    def __init__(self, path: Path):
        self.library, self.pointer, message = library(), ctypes.c_void_p(), ctypes.create_string_buffer(256)
        self.library.race_about.restype = Info
        self.status = self.library.race_load(str(path).encode(), ctypes.byref(self.pointer), message)
        self.message = message.value.decode()
        if self.status == OK:
            self.info = self.library.race_about(self.pointer)

    def evaluate(self, atoms: Atoms, of_members=True, threads=1, change=lambda arrays: None):
        graph = from_atoms(atoms, self.info.cutoff)
        n = len(atoms)
        first = np.concatenate([[0], np.cumsum(np.bincount(graph.edge_index[0], minlength=n))])
        arrays = {"numbers": graph.numbers, "first": first, "neighbour": np.ascontiguousarray(graph.edge_index[1])}
        arrays |= {"vectors": graph.edge_vectors.copy()}
        change(arrays)
        found = self.room(n, n, of_members)
        structure, results = structure_of(n, arrays), results_of(found, of_members)
        message = ctypes.create_string_buffer(256)
        status = self.library.race_evaluate(self.pointer, ctypes.byref(structure), ctypes.byref(results), threads, message)
        return status, message.value.decode(), found

    def room(self, own, n, of_members=True):
        """Where results go, of a structure with n - own ghosts."""
        members = self.info.members
        rows = members if of_members else 1
        shapes = [(members,), (members, own), (rows, n, 3), (rows, 3, 3), (members,), (members, n, 3, 3), (n, self.info.features)]
        return {name: np.full(shape, np.nan) for name, shape in zip(NAMES, shapes)}

    def __del__(self):
        if self.status == OK:
            self.library.race_free(self.pointer)


def structure_of(n, arrays, ghosts=0):
    return Structure(n, *(arrays[name].ctypes.data for name in ARRAYS), ghosts)


def results_of(found, of_members):
    return Results(int(of_members), *(found[name].ctypes.data for name in NAMES))
