"""race-calc init: a configuration for the user's data; race-calc schema: what a configuration may hold."""

import json
import os
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from race_calc.cli.app import command


@command("init")
def init(
    data: Annotated[Path, typer.Argument(help="file with energies and forces, in any format of ASE")],
    out: Annotated[Path, typer.Option(help="YAML file to write")] = Path("train.yaml"),
    measure: Annotated[bool, typer.Option(help="try some batches, to say how long the training takes")] = True,
) -> None:
    """Write a commented configuration that fits the data, and say what the training would cost on this machine."""
    from race_calc.data.dataset import dataset_from_atoms, read_dataset, read_structures
    from race_calc.data.label_names import LABELS, names_in
    from race_calc.model.hardware import keep_freed_memory
    from race_calc.train.propose import facts_of, hours, propose, text_of
    from race_calc.uncertainty.thresholds import FEWEST

    if out.exists():
        raise FileExistsError(f"{out} is there already: remove it, or give another --out")
    if ".npz" in data.name:
        names, dataset = LABELS, read_dataset(data)
    else:
        frames = read_structures(data)
        names = names_in(frames) or LABELS
        dataset = dataset_from_atoms(frames, str(data), names)
    facts = facts_of(dataset)
    chosen = propose(facts)
    text = text_of(facts, chosen, os.path.relpath(data, out.parent), names)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    print(f"{out}: {facts.structures} structures of {', '.join(facts.elements)}, {chosen.members} members, {chosen.epochs} epochs.")
    if measure:
        keep_freed_memory()
        print(f"The training takes some {_duration(hours(text, out.parent))} on the CPU here, as busy as it is; fewer members take less.")
    if chosen.validation < FEWEST:
        print(f'{chosen.validation} structures to validate give no thresholds "auto": hold {FEWEST} back for race-calc calibrate')
    print(f"Next: race-calc train {quote(str(out))} --out {quote(f'runs/{out.stem}')}")


@command("schema")
def schema(of: Annotated[str, typer.Argument(help="train or learn")] = "train") -> None:
    """Print the JSON schema of a configuration, for editors that complete and check YAML."""
    from race_calc.learning.config import LearnConfig
    from race_calc.train.config import TrainConfig

    kinds: dict[str, Any] = {"train": TrainConfig, "learn": LearnConfig}
    if of not in kinds:
        raise ValueError(f"there is no configuration {of!r}: use train (of race-calc train) or learn (of race-calc learn)")
    print(json.dumps(kinds[of].model_json_schema(), indent=2, ensure_ascii=False))


def _duration(hours: float) -> str:
    return f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:.0f} hours"
