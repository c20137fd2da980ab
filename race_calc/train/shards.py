"""Members trained in runs of their own, on other machines or at other times, and joined to the model that one run would have made."""

import os
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import torch

from race_calc.model.parameters import select_members
from race_calc.posterior.base import by_name
from race_calc.posterior.state import StackState, Trained
from race_calc.train.config import TrainConfig
from race_calc.train.files import load_state
from race_calc.train.prepare import Prepared

BY_RANK = "rank"
FOLDER = re.compile(r"members-(\d+)-(\d+)")


def members_of(text: str, config: TrainConfig, environment: Mapping[str, str] = os.environ) -> range:
    """Which members "0:5" are, or "rank": the share of RANK among WORLD_SIZE, as `torchrun` sets them.

    Raises ValueError for anything else, for members that are not there, and for a posterior that trains one model.
    """
    total = config.trained
    if total < 2:
        raise ValueError(f"a {config.posterior} trains {total} model: there is nothing to divide; leave out --members")
    if text == BY_RANK:
        try:
            rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        except (KeyError, ValueError):
            raise ValueError("--members rank needs RANK and WORLD_SIZE in the environment; or give the members, such as 0:5") from None
        if not 0 <= rank < size:
            raise ValueError(f"RANK is {rank} and WORLD_SIZE {size}: give a rank from 0 to {size - 1}")
        first, last = rank * total // size, (rank + 1) * total // size
        if first == last:
            raise ValueError(f"rank {rank} of {size} has no member: there are {total}; start at most as many ranks")
        return range(first, last)
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if found is None or not int(found[1]) < int(found[2]) <= total:
        raise ValueError(f"--members is {text!r}: give a part of 0:{total}, such as 0:{(total + 1) // 2}, or rank")
    return range(int(found[1]), int(found[2]))


def shard(config: TrainConfig, prepared: Prepared, members: range) -> tuple[TrainConfig, Prepared]:
    """The run of these members alone. Each of them takes the steps that it would take among all."""
    part = replace(
        prepared,
        parameters=select_members(prepared.parameters, list(members)),
        fingerprint=f"{prepared.fingerprint}, members {members.start}:{members.stop}",
    )
    return config.model_copy(update={"members": len(members)}), part


def folder_of(out: Path, members: range) -> Path:
    """Where their run is."""
    return out / f"members-{members.start:04d}-{members.stop:04d}"


def joined(config: TrainConfig, prepared: Prepared, out: Path, device: torch.device) -> Trained:
    """The state of all members, from the runs in `out`.

    Raises ValueError where members are missing, occur twice, have not been trained to the end, or belong to another configuration or data.
    """
    places = sorted(path.name for path in out.glob("members-*") if path.is_dir())
    runs = [range(int(found[1]), int(found[2])) for name in places if (found := FOLDER.fullmatch(name))]
    there = [member for members in runs for member in members]
    if there != list(range(config.trained)):
        told = ", ".join(f"{members.start}:{members.stop}" for members in runs) or "none"
        raise ValueError(f"{out} has the members {told}: each of 0:{config.trained} is needed once")
    states = []
    for members in runs:
        folder = folder_of(out, members)
        trained, epochs = load_state(folder, shard(config, prepared, members)[1].fingerprint, by_name(config.posterior), device)
        if epochs < config.training.epochs:
            raise ValueError(f"{folder} has {epochs} of {config.training.epochs} epochs: go on with it, --members … --resume")
        states.append(trained.state)
    return Trained(StackState(*(torch.cat([getattr(state, field.name) for state in states]) for field in fields(StackState))))
