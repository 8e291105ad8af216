"""What the methods declare of themselves without torch: parameters, bits, costs. One file each."""

from bitsweep.trainer import MethodDeclaration

METHODS: dict[str, MethodDeclaration] = {}
LOOP_NUMERICS = 1
