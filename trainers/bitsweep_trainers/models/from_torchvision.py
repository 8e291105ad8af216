"""torchvision's networks as stem, body and head, and torchvision itself imported safely."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitsweep.declaration import Shape
from bitsweep.errors import InputError
from bitsweep_trainers.models.network import Network, convolution, named

_KEPT: list[torch.library.Library] = []  # an operator lives as long as its library object
_BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def torchvision_models() -> Any:  # torchvision is untyped
    """The module torchvision.models; InputError when torchvision is not installed.

    Beside a CPU build of torch the compiled operators of torchvision's wheel may not load, and its
    plain import then fails: declare the two it looks for, which no network here runs. May go when
    `import torchvision` works beside torch +cpu.
    """
    found = find_spec("torchvision")
    if found is None or found.origin is None:
        raise InputError("this model needs torchvision: pip install torchvision==0.28.0")
    if not hasattr(torch.ops.torchvision, "nms"):
        try:
            load: Callable[[str], None] = torch.ops.load_library
            load(str(Path(found.origin).parent / "_C.so"))
        except OSError:
            library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(f"nms{_BOXES}")
            library.define(f"qnms{_BOXES}")
            _KEPT.append(library)
    import torchvision.models

    return torchvision.models


def torchvision_resnet(
    shape: Shape, classes: int, *, name: str, is_small: bool = False
) -> Network:
    """ResNet-18, 34 or 50; `is_small`: a 3x3 stem without stride or pool."""
    made = getattr(torchvision_models(), name)(num_classes=classes)
    stem = named(conv=made.conv1, bn=made.bn1, relu=made.relu, pool=made.maxpool)
    if is_small:
        conv = convolution(shape[0], 64, kernel=3, padding=1)
        stem = named(conv=conv, bn=made.bn1, relu=made.relu)
    elif shape[0] != 3:
        stem.conv = convolution(shape[0], 64, kernel=7, stride=2, padding=3)
    body = named(stage1=made.layer1, stage2=made.layer2, stage3=made.layer3, stage4=made.layer4)
    head = named(pool=made.avgpool, flatten=nn.Flatten(), linear=made.fc)
    return _out_of_place(Network(stem=stem, body=body, head=head))


def mobilenet_v2(shape: Shape, classes: int) -> Network:
    """MobileNetV2 of width 1; without its dropout, which draws from the global generator."""
    made = torchvision_models().mobilenet_v2(num_classes=classes)
    first, *blocks, last = made.features
    conv = first[0] if shape[0] == 3 else convolution(shape[0], 32, kernel=3, stride=2, padding=1)
    stem = named(conv=conv, bn=first[1], relu=first[2])
    parts: dict[str, nn.Module] = {
        f"block{index}": block for index, block in enumerate(blocks, start=1)
    }
    head = named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=made.classifier[1])
    return _out_of_place(Network(stem=stem, body=named(**parts, last=last), head=head))


def _out_of_place(network: Network) -> Network:
    """Quantizers keep their inputs for the backward pass: no ReLU may overwrite them."""
    for module in network.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6):
            module.inplace = False
    return network


Rename = Callable[[str], str]
_RESNET = {"conv1.": "stem.conv.", "bn1.": "stem.bn.", "fc.": "head.linear."}
_RESNET |= {f"layer{index}.": f"body.stage{index}." for index in (1, 2, 3, 4)}
_MOBILENET = {"features.0.0.": "stem.conv.", "features.0.1.": "stem.bn."}
_MOBILENET |= {f"features.{index}.": f"body.block{index}." for index in range(1, 18)}
_MOBILENET |= {"features.18.": "body.last.", "classifier.1.": "head.linear."}
NAMES: dict[str, dict[str, str]] = {
    **dict.fromkeys(("resnet18", "resnet18-small", "resnet34", "resnet50"), _RESNET),
    "mobilenet-v2": _MOBILENET,
}


def renamed(key: str, model: str) -> str:
    """The path here of a tensor that torchvision names so; a name of another network stays.

    >>> renamed("layer2.0.conv1.weight", "resnet18")
    'body.stage2.0.conv1.weight'
    """
    for theirs, ours in NAMES.get(model, {}).items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key
