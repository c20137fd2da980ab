"""Examples as tensors: one layout and its labels."""

from collections.abc import Sequence

import numpy as np
import torch

from race_calc.data.graph import collate
from race_calc.data.targets import Example
from race_calc.model.kernels.messages import kernels_usable
from race_calc.model.layout import Layout, Numerics
from race_calc.model.outputs import Labels
from race_calc.model.race import Race, layout_of


def batch_of(examples: list[Example], model: Race, dtype: torch.dtype, device: torch.device) -> tuple[Layout, Labels]:
    """Collate examples for the device."""
    graph = collate([example.graph for example in examples])

    def tensor(values) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values), dtype=dtype, device=device)

    def labels_of(some: Sequence[Example], others: tuple[Labels, ...] = ()) -> Labels:
        forces = np.concatenate([example.forces for example in some])
        return Labels(
            energy=tensor([example.energy for example in some]),
            forces=tensor(forces),
            virial=tensor(np.stack([example.virial for example in some])),
            volume=tensor(graph.volume),
            extra={name: tensor(np.concatenate([example.extra[name] for example in some])) for name in some[0].extra},
            has_energy=not any(np.isnan(example.energy) for example in some),
            has_forces=not np.isnan(forces).any(),
            others=others,
        )

    labels = labels_of(examples, tuple(labels_of(some) for some in zip(*(example.others for example in examples))))
    return layout_of(model, graph, Numerics(dtype, device, padded=not kernels_usable(device), training=True)), labels
