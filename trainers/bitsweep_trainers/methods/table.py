"""The methods there are, by name; what they declare without torch stands in `declared`."""

from bitsweep.errors import UnknownName, nearest
from bitsweep_trainers.methods.base import Method
from bitsweep_trainers.methods.cpq_dropbits import CPQ_DROPBITS
from bitsweep_trainers.methods.fp32 import FP32
from bitsweep_trainers.methods.lsq import LSQ
from bitsweep_trainers.methods.mbquant import MBQUANT
from bitsweep_trainers.methods.ptq import PTQ

METHODS: dict[str, Method] = {
    "fp32": FP32,
    "ptq": PTQ,
    "lsq": LSQ,
    "cpq_dropbits": CPQ_DROPBITS,
    "mbquant": MBQUANT,
}


def method_of(name: str) -> Method:
    """The method of that name; UnknownName if there is none."""
    if name not in METHODS:
        raise UnknownName(f"unknown method {name!r}{nearest(name, list(METHODS))}")
    return METHODS[name]
