"""Where all draws of a trial come from."""

from hashlib import sha256

import torch


def stream(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose of a trial; purposes do not disturb each other."""
    digest = sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
