"""Projections: layers of shortcuts that run beside a block, told by their paths.

Networks are built here and by torchvision, which give the shortcut of a block different names.
"""

SHORTCUTS = ("shortcut", "downsample")
# Numerics of methods that took these models' projections for layers of the block (decision 089).
REKEYED = dict.fromkeys(("resnet18", "resnet18-small", "resnet34", "resnet50"), 2)


def projected_block(path: str) -> str | None:
    """The path of the block that a layer is the projection of; None for any other layer.

    >>> projected_block("body.stage2.0.shortcut.conv")
    'body.stage2.0'
    >>> projected_block("body.stage2.0.downsample.0")
    'body.stage2.0'
    >>> projected_block("body.stage2.0.conv1") is None
    True
    """
    parts = path.split(".")
    places = [place for place, part in enumerate(parts) if part in SHORTCUTS]
    return ".".join(parts[: places[0]]) if places else None
