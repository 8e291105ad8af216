"""What the methods declare of themselves without torch: parameters, bits, costs. One file each."""

from bitsweep.declaration import MethodDeclaration
from bitsweep_trainers.methods.declared import (
    abn,
    adabits,
    adaqat,
    alq,
    any_precision,
    bit_mixer,
    cpq_dropbits,
    dorefa,
    fp32,
    lsq,
    lsq_plus,
    mbquant,
    pact,
    ptq,
    splitquant,
)

METHODS: dict[str, MethodDeclaration] = {
    "fp32": fp32.DECLARATION,
    "ptq": ptq.DECLARATION,
    "splitquant": splitquant.DECLARATION,
    "dorefa": dorefa.DECLARATION,
    "pact": pact.DECLARATION,
    "lsq": lsq.DECLARATION,
    "lsq_plus": lsq_plus.DECLARATION,
    "alq": alq.DECLARATION,
    "adaqat": adaqat.DECLARATION,
    "cpq_dropbits": cpq_dropbits.DECLARATION,
    "adabits": adabits.DECLARATION,
    "any_precision": any_precision.DECLARATION,
    "bit_mixer": bit_mixer.DECLARATION,
    "mbquant": mbquant.MBQUANT,
    "abn": abn.DECLARATION,
}
LOOP_NUMERICS = 1
