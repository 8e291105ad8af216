"""The methods there are, by name; what they declare without torch stands in `declared`."""

from bitsweep.errors import UnknownName, nearest
from bitsweep_trainers.methods.abn import ABN
from bitsweep_trainers.methods.adabits import ADABITS
from bitsweep_trainers.methods.adaqat import ADAQAT
from bitsweep_trainers.methods.alq import ALQ
from bitsweep_trainers.methods.any_precision import ANY_PRECISION
from bitsweep_trainers.methods.base import Method
from bitsweep_trainers.methods.bit_mixer import BIT_MIXER
from bitsweep_trainers.methods.cpq_dropbits import CPQ_DROPBITS
from bitsweep_trainers.methods.dorefa import DOREFA
from bitsweep_trainers.methods.fp32 import FP32
from bitsweep_trainers.methods.lsq import LSQ
from bitsweep_trainers.methods.lsq_plus import LSQ_PLUS
from bitsweep_trainers.methods.mbquant import MBQUANT
from bitsweep_trainers.methods.pact import PACT
from bitsweep_trainers.methods.ptq import PTQ
from bitsweep_trainers.methods.splitquant import SPLITQUANT

METHODS: dict[str, Method] = {
    "fp32": FP32,
    "ptq": PTQ,
    "splitquant": SPLITQUANT,
    "dorefa": DOREFA,
    "pact": PACT,
    "lsq": LSQ,
    "lsq_plus": LSQ_PLUS,
    "alq": ALQ,
    "adaqat": ADAQAT,
    "cpq_dropbits": CPQ_DROPBITS,
    "adabits": ADABITS,
    "any_precision": ANY_PRECISION,
    "bit_mixer": BIT_MIXER,
    "mbquant": MBQUANT,
    "abn": ABN,
}


def method_of(name: str) -> Method:
    """The method of that name; UnknownName if there is none."""
    if name not in METHODS:
        raise UnknownName(f"unknown method {name!r}{nearest(name, list(METHODS))}")
    return METHODS[name]
