"""RACECalculator: a trained RACE posterior as an ASE calculator."""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import external_calculators
from ase.data import chemical_symbols

from race_calc.data.dataset import Dataset
from race_calc.data.graph import Graph, batches, from_atoms, from_atoms_with_skin
from race_calc.data.label_names import LABELS, LabelNames, or_ase
from race_calc.data.skin import SkinList
from race_calc.data.structure import checked
from race_calc.data.surfaces import labels_beside, names_of_state
from race_calc.interfaces.copies import FromFolder
from race_calc.interfaces.offered import offered
from race_calc.interfaces.reference_watch import ReferenceWatch
from race_calc.interfaces.stack_predictor import StackPredictor, check_charge
from race_calc.label.calculated import Calculated
from race_calc.model.hardware import keep_freed_memory, torch_device
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.posterior.manifest import hash_weights
from race_calc.posterior.means import means_of
from race_calc.posterior.shipped import model_folder
from race_calc.posterior.stack import StackPosterior
from race_calc.posterior.surfaces import SurfacesPosterior, thresholds_of, with_surfaces
from race_calc.uncertainty.prediction import QUANTITIES, Prediction
from race_calc.uncertainty.predictor import BATCH
from race_calc.uncertainty.scores import has_volume


class RACECalculator(FromFolder):
    """Energy, forces, stress and their uncertainties from one evaluation of all members.

    `results` after a calculation (B = 1 structure, N atoms):

    ============================= ========= ======= ================================================
    key                           shape     unit    meaning
    ============================= ========= ======= ================================================
    energy, free_energy           float     eV      mean over the members, or the MAP's (`laplace`)
    energies                      (N,)      eV      per atom
    forces                        (N, 3)    eV/Å    exact gradient of the energy
    stress                        (6,)      eV/Å³   Voigt, ASE sign; periodic cells with a volume
    energy_uncertainty            float     eV      standard deviation, total
    forces_uncertainty            (N, 3)    eV/Å    standard deviation of each component, total
    forces_covariance             (N, 3, 3) eV²/Å²  total
    stress_uncertainty            (6,)      eV/Å³   standard deviation, total; of heads without stress the epistemic part
    stress_covariance             (6, 6)    eV²/Å⁶  the same as a covariance
    …_epistemic, …_aleatoric                        parts: between the members, predicted by them
    bald_energy                   float     nat     mutual information of prediction and parameters
    bald_forces                   (N,)      nat     the same, per atom
    feature_distance              (N,)      -       from the atoms of the training, in last-layer features
    distance_gap                  (N,)      Å       its distances to others, outside of those of the training
    gap                           float     eV      of models of several states: to the nearest other one, ≥ 0
    gap_uncertainty, …_epistemic  float     eV      its standard deviation, and parts as above
    energies_states               (S,)      eV      mean energies of all states
    energies_members              (M,)      eV      only with `members=True`, never calibrated
    forces_members                (M, N, 3) eV/Å    only with `members=True`, never calibrated
    stress_members                (M, 6)    eV/Å³   only with `members=True`, never calibrated
    name of another output        (N, …) or …       mean over the members; `Prediction.extra` has its spread
    calibrated                    bool              whether the uncertainties are recalibrated; those of the
                                                    stress are where the calibration had labels of it
    ============================= ========= ======= ================================================

    Between the checks of a monitor with an interval only energies, forces and stress are there where they cost less; the rest is
    predicted when it is asked for. A quantity that the posterior does not give (BALD of a single member, covariances of the head `energy`)
    is absent, and asking for it raises ASE's PropertyNotImplementedError.

    Parameters: `model`, the name of a shipped model (`race-calc models`), or the folder of one. `device`, "cpu", "cuda", … or None: CUDA
    where there is one.
    `dtype`, "float64" or "float32". `members`, also give every member's energy and forces. `compile`: on a CPU,
    use the compiled kernels of the package; None: where it was installed with a C compiler; False: torch's own
    operations, eight to nine times slower for a molecule. On a GPU, True lets torch compile the model in the first step of a process, which
    takes minutes; None and False do not. `tables`, read the radial functions from tables with the kernels (relative error
    of the path weights below 5e-7; for models/3bpa-de 3e-10 eV per atom and 5e-6 eV/Å, `benchmarks/tables.py`).
    `forces_epistemic`: False leaves out what needs the forces of every member (total and epistemic force covariances,
    `bald_forces`, the stress covariance); for posteriors whose members share all but the last layer (shallow-ensemble,
    llpr) a step then costs little more than that of one model. `calibrated`: recalibrate the uncertainties with what
    `race-calc calibrate` stored in the model; None: where it did. The attribute `calibration` is what is applied, or None; it
    also gives intervals (`calibration.energy.interval(0.9)`). `baseline`: the ASE calculator that an `external` model was trained
    as the difference to; other models bring theirs. `state`: the electronic state that energy and forces are of, by number or name, of a
    model of several. On Linux the process keeps freed memory for the next step
    instead of returning it (`race_calc.model.hardware`). Warns (`UserWarning`) where a stress is asked of a model that was trained
    without, and, once for each composition, where a structure, or a fragment
    further than the cutoff from the rest, has a composition whose reference energy the training left open
    (`race_calc.data.references`).

    Raises FileNotFoundError or CheckpointError for a folder that cannot be loaded, RuntimeError for `compile=True`
    without compiled kernels on a CPU or with torch < 2.13 on a GPU, ValueError for an impossible device, dtype or state and for
    `calibrated=True` without a calibration; `calculate` raises ValueError for a structure that cannot be evaluated.
    """

    ignored_changes = {"initial_magmoms", "initial_charges"}  # noqa: RUF012  # the model does not see them
    _warned = False  # of a stress

    name = "race"

    def __init__(
        self,
        model: str | Path,
        device: str | None = None,
        dtype: str = "float64",
        members: bool = False,
        compile: bool | None = None,
        tables: bool = True,
        forces_epistemic: bool = True,
        calibrated: bool | None = None,
        baseline: Any = None,
        state: int | str = 0,
    ):
        keep_freed_memory()
        model = model_folder(model)
        self.checkpoint = load_checkpoint(model, calibration=calibrated is not False, state=state)
        if self.checkpoint.model.plan.config.targets:
            names = ", ".join(self.checkpoint.model.plan.config.targets)
            raise ValueError(
                f"{model} predicts properties of molecules ({names}) and has no forces: use race_calc.PropertyModel({str(model)!r})"
            )
        stack = load_stack(self.checkpoint, _dtype(dtype), torch_device(device), compile, tables, forces_epistemic, baseline)
        self.posterior = with_surfaces(stack, self.checkpoint, self.checkpoint.state) if self.checkpoint.surfaces else stack
        if calibrated and self.checkpoint.calibration is None:
            raise ValueError(f"{model} has no calibration: run `race-calc calibrate` on it, or leave out calibrated=True")
        given = offered(self.checkpoint, members, forces_epistemic)
        if isinstance(self.posterior.baseline, Calculated) and not self.posterior.baseline.has_stress:
            given = frozenset(name for name in given if not (name in QUANTITIES and name.startswith("stress")))
        super().__init__(given, thresholds_of(self.checkpoint), self.checkpoint.calibration)
        self.model_hash = hash_weights(model)
        self.elements = tuple(chemical_symbols[z] for z in self.checkpoint.model.species)
        self.parameters.update(model=str(model), dtype=dtype, **({"state": self.checkpoint.state} if self.checkpoint.surfaces else {}))
        self._settings = (compile, tables) if forces_epistemic else None  # of the posterior of means
        self._loaded = self.posterior  # another one in its place has no means alone
        self._cheap: tuple[StackPosterior | None, ...] = ()  # the posterior of means, when it was asked for
        self._pairs: SkinList | None = None
        self._references = ReferenceWatch(self.checkpoint.references)
        self._made = {
            "model": str(Path(model).resolve()),
            "device": device,
            "dtype": dtype,
            "members": members,
            "compile": compile,
            "tables": tables,
            "forces_epistemic": forces_epistemic,
            "calibrated": calibrated,
            "baseline": baseline,
            "state": state,
        }

    _load = __init__

    def states(self, atoms: Atoms) -> tuple[Prediction, ...]:
        """The Predictions of all states with their forces, and then of the scalars, as the model gives them, never calibrated.

        Raises ValueError for a model of one energy, and what `calculate` raises.
        """
        if not isinstance(self.posterior, SurfacesPosterior):
            raise ValueError("this model has one energy and no states: use prediction(atoms)")
        with self._lock:
            return self.posterior.predict_each(self._graph(checked(atoms)))

    @property
    def label_names(self) -> LabelNames:
        """Under which names data hold the labels of what it predicts: of a state, energy_S0 and forces_S0; else those of the training, or
        ASE's where a structure has none."""
        states = self.checkpoint.model.plan.config.states
        if states:
            return names_of_state(states[self.checkpoint.state])
        keys = self.checkpoint.training.get("config", {}).get("data", {}).get("keys", {})
        return or_ase(LabelNames(**{name: str(keys[name]) for name in vars(LABELS) if name in keys}))

    def labels_beside(self, dataset: Dataset) -> dict[str, np.ndarray]:
        """Labels (B,) of what it predicts beside energies and forces: of a model of several states the gap, and the scalars."""
        config = self.checkpoint.model.plan.config
        return labels_beside(dataset, config.states, self.checkpoint.state, config.scalars) if config.states else {}

    def structure_features(self, structures: Iterable[Atoms], batch: int = BATCH) -> np.ndarray:
        """Where structures lie in last-layer features (B, L), for those who look for others unlike them.

        Raises ValueError for no structures, and for one that cannot be evaluated.
        """
        if not (structures := list(structures)):
            raise ValueError("there are no structures: give at least one")
        trunk = self.posterior.each[0] if isinstance(self.posterior, SurfacesPosterior) else self.posterior
        graphs = (from_atoms(checked(atoms), trunk.model.plan.config.cutoff) for atoms in structures)
        return np.concatenate([trunk.structure_features(graph) for graph in batches(graphs, batch)])

    @property
    def learned_stress(self) -> bool:
        """Whether the training had a weight for stresses; False where that is not known."""
        return bool(self.checkpoint.training.get("config", {}).get("training", {}).get("stress_weight"))

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True):
        """As in ASE. Warns, once, where a stress is asked of a model that was trained without."""
        asked = name == "stress" and allow_calculation and (atoms is None or has_volume(atoms))  # not by those who write what is there
        if asked and not self.learned_stress and not self._warned:
            self._warned = True
            warnings.warn(
                "this model was trained without stresses: its pressures, and cells and volumes that follow them, are a guess; train with "
                "labels of stress (training.stress_weight has a default for them)",
                stacklevel=4,
            )
        return super().get_property(name, atoms, allow_calculation)

    def _raw(self, atoms: Atoms) -> Prediction:
        return self.posterior.predict(self._graph(atoms))

    def _means(self, atoms: Atoms) -> Prediction | None:
        if self._settings is None or self.posterior is not self._loaded or not isinstance(self.posterior, StackPosterior):
            return None
        if not self._cheap:
            self._cheap = (means_of(self.checkpoint, self.posterior, *self._settings),)
        (cheap,) = self._cheap
        return None if cheap is None else cheap.predict(self._graph(atoms))

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be made again."""
        return super().__getstate__() | {"_cheap": ()}

    def _graph(self, atoms: Atoms) -> Graph:
        check_charge(self.posterior, atoms)
        last = self._pairs
        graph, self._pairs = from_atoms_with_skin(atoms, self.checkpoint.model.plan.config.cutoff, last)
        self._references.watch(graph, moved=self._pairs is not last)
        return graph

    @property
    def predictor(self) -> StackPredictor:
        """Its posterior for many structures, without a calibration; `results` stay as they are."""
        return StackPredictor(self.posterior, self._references)

    def raw_predictions(self, structures: Iterable[Atoms], batch: int = BATCH) -> Iterator[Prediction]:
        return self.predictor.raw_predictions(structures, batch)


def _dtype(name: str) -> torch.dtype:
    if name not in ("float32", "float64"):
        raise ValueError(f'dtype is {name!r}: use "float64" or "float32"')
    return getattr(torch, name)


external_calculators.setdefault(RACECalculator.name, RACECalculator)  # ASE makes it by this name, as of a row of a database
