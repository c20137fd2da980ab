"""Devices by name."""

import torch


def torch_device(name: str | None) -> torch.device:
    """The device of that name, "cpu", "cuda" or "cuda:0"; None is CUDA where there is one.

    Raises ValueError for a device that is unknown or that this machine does not have.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f'device is {name!r}: use "cpu", "cuda" or "cuda:0"')
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f'device is {name!r}, but this machine has no CUDA GPU that torch can use: use device="cpu"')
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise ValueError(f"device is {name!r}, but this machine has {torch.cuda.device_count()} CUDA GPUs")
    return device
