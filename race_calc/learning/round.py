"""The files of one round of a learning run: what was collected, chosen, labelled and learned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.io import read

from race_calc.data.extxyz import as_extxyz
from race_calc.data.files import write_atomically
from race_calc.label.file import failed_beside, label_frames
from race_calc.label.given import Given
from race_calc.label.methods import Method

CHOSEN = "chosen.xyz"


@dataclass(frozen=True)
class Round:
    """Round `number`, from 1, of the run in `folder`. Each file is written as a whole: what is there is done."""

    folder: Path
    number: int

    @property
    def path(self) -> Path:
        return self.folder / "rounds" / f"{self.number:03d}"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def labelled(self) -> Path:
        return self.path / "labelled.xyz"

    def collect(self, turn: int, frames: Sequence[Atoms]) -> None:
        """The candidates of a turn; done again after a kill they replace those that were there."""
        path = self.path / f"candidates-{turn:08d}.xyz"
        if frames:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(path, as_extxyz(frames))
        else:
            path.unlink(missing_ok=True)

    def forget(self) -> None:
        """No candidates yet."""
        for path in self.path.glob("candidates-*.xyz"):
            path.unlink()

    def candidates(self) -> list[Atoms]:
        return [atoms for path in sorted(self.path.glob("candidates-*.xyz")) for atoms in read(path, ":")]

    def chosen(self) -> list[Atoms] | None:
        """None where nobody has chosen yet."""
        path = self.path / CHOSEN
        if not path.exists():
            return None
        return list(read(path, ":")) if path.stat().st_size else []

    def choose(self, choice: Callable[[], Sequence[Atoms]]) -> list[Atoms]:
        """What was chosen before, else the choice, which is kept."""
        if (before := self.chosen()) is not None:
            return before
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / CHOSEN, as_extxyz(choice()))
        return self.chosen() or []

    def label(self, reference: Method | Given, processes: int) -> None:
        """The chosen structures, where they are not labelled yet. Raises ValueError where none can be: the next call tries again."""
        frames = self.chosen()
        if frames and not self.labelled.exists():
            failed_beside(self.labelled).unlink(missing_ok=True)
            label_frames(frames, self.labelled, reference, processes)
