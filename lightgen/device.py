"""The only place that chooses a device; everything else runs where its inputs are."""

import torch


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name: auto (an accelerator where there is one), cpu, cuda, cuda:N or mps.

    ValueError for another name, or for a device that this machine does not have.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return accelerator or torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdigit())):
        raise ValueError(f"device is {name!r}; valid: auto, cpu, cuda, cuda:N, mps")
    count = torch.accelerator.device_count() if accelerator is not None and accelerator.type == kind else 0
    if kind != "cpu" and int(number or 0) >= count:
        present = ["cpu", *(f"{accelerator}:{i}" for i in range(torch.accelerator.device_count()) if accelerator)]
        raise ValueError(f"device {name} is not there; this machine has {', '.join(present)}")
    return torch.device(name)
