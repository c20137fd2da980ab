"""Examples as tensors: one layout and its labels."""

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

    labels = Labels(
        energy=tensor([example.energy for example in examples]),
        forces=tensor(np.concatenate([example.forces for example in examples])),
        virial=tensor(np.stack([example.virial for example in examples])),
        volume=tensor(graph.volume),
        extra={name: tensor(np.concatenate([example.extra[name] for example in examples])) for name in examples[0].extra},
    )
    return layout_of(model, graph, Numerics(dtype, device, padded=not kernels_usable(device), training=True)), labels
