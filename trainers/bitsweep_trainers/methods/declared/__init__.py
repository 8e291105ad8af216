"""What the methods declare of themselves without torch: parameters, bits, costs. One file each."""

from bitsweep.trainer import MethodDeclaration
from bitsweep_trainers.methods.declared import cpq_dropbits, fp32, lsq, mbquant, ptq

METHODS: dict[str, MethodDeclaration] = {
    "fp32": fp32.DECLARATION,
    "ptq": ptq.DECLARATION,
    "lsq": lsq.DECLARATION,
    "cpq_dropbits": cpq_dropbits.DECLARATION,
    "mbquant": mbquant.MBQUANT,
}
LOOP_NUMERICS = 1
