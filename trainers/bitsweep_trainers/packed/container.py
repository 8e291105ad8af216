"""The file itself: magic, version, checksum, a JSON header, and a payload without gaps.

docs/packed-format.md tells every byte. Nothing in a file is executed: it is JSON and numbers.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitsweep.errors import InputError
from bitsweep.trial import canonical_json
from bitsweep_trainers.packed.bitstream import bits_of, codes_of, pack, unpack
from bitsweep_trainers.packed.weights import Codes

MAGIC = b"BITSWEEP"
VERSION = 1
FLOAT_BITS = 32
LEAD = Struct("<8sI4xQ32s")  # magic, version, bytes of the header, SHA-256 of all behind the lead


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The bits of a file: payload_bits is what the model takes, the rest is told apart.

    policy_bits: what a learned policy takes behind it.
    """

    payload_bits: int
    padding_bits: int
    header_bytes: int
    file_bytes: int
    policy_bits: int = 0


def write(
    path: Path, document: Mapping[str, Any], tensors: Mapping[str, Tensor | Codes]
) -> Written:
    """Write header and tensors whole or not at all; OSError if the place cannot be written.

    Tensors in floating point come first, 32 bits each; codes follow, bit behind bit.
    """
    table: dict[str, dict[str, Any]] = {}
    floats = {name: one for name, one in tensors.items() if isinstance(one, Tensor)}
    codes = {name: one for name, one in tensors.items() if isinstance(one, Codes)}
    offset = 0
    for name, one in floats.items():
        table[name] = {"bits": FLOAT_BITS, "shape": list(one.shape), "offset": offset}
        offset += FLOAT_BITS * one.numel()
    for name, coded in codes.items():
        table[name] = {"bits": coded.bits, "shape": list(coded.raw.shape), "offset": offset}
        offset += coded.bits * coded.raw.numel()
    payload = b"".join(_float_bytes(one) for one in floats.values())
    spread = [bits_of(one.raw.cpu().numpy().reshape(-1), one.bits) for one in codes.values()]
    payload += pack(np.concatenate(spread)) if spread else b""
    header = canonical_json({**document, "tensors": table, "payload_bits": offset}).encode()
    behind = header + payload
    lead = LEAD.pack(MAGIC, VERSION, len(header), sha256(behind).digest())
    _write_whole(path, lead + behind)
    return Written(
        payload_bits=offset,
        padding_bits=8 * len(payload) - offset,
        header_bytes=len(lead) + len(header),
        file_bytes=len(lead) + len(behind),
    )


def _float_bytes(values: Tensor) -> bytes:
    numbers = values.detach().cpu().contiguous().numpy()
    return numbers.astype("<f4").tobytes()


def _write_whole(path: Path, data: bytes) -> None:
    scratch = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        scratch.write_bytes(data)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors by name: float32, or uint8 codes without their lowest one.

    InputError for a file that is missing, foreign, of another version, cut or changed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    header, payload = _checked(path, data)
    try:
        document = json.loads(header)
        tensors = {str(name): _tensor(payload, row) for name, row in document["tensors"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: the header does not fit its payload: {error}") from error
    return document, tensors


def _checked(path: Path, data: bytes) -> tuple[bytes, bytes]:
    """Header and payload of a whole file; what is wrong is told in one line."""
    if not data.startswith(MAGIC):
        raise InputError(f"{path} is no packed model: it does not begin with {MAGIC.decode()}")
    if len(data) < LEAD.size:
        raise InputError(f"{path} is cut: {len(data)} bytes, its lead alone has {LEAD.size}")
    _, version, header_bytes, digest = LEAD.unpack_from(data)
    if version != VERSION:
        raise InputError(
            f"{path} has version {version} of the packed format, this program reads {VERSION}: "
            "export the trial again"
        )
    behind = data[LEAD.size :]
    if sha256(behind).digest() != digest:
        raise InputError(f"{path} is damaged or cut: its checksum differs; export the trial again")
    if header_bytes > len(behind):
        raise InputError(f"{path} is damaged: its header would end behind the file")
    return behind[:header_bytes], behind[header_bytes:]


def _tensor(payload: bytes, row: Mapping[str, Any]) -> Tensor:
    shape = [int(one) for one in row["shape"]]
    bits, offset, count = int(row["bits"]), int(row["offset"]), int(np.prod(shape, dtype=object))
    if min(offset, count, *shape, 0) < 0:
        raise ValueError("sizes and offsets are not negative")
    if bits == FLOAT_BITS:
        if offset % 8 or offset + bits * count > 8 * len(payload):
            raise ValueError("a tensor lies outside the payload")
        numbers = np.frombuffer(payload, dtype="<f4", count=count, offset=offset // 8)
        return torch.from_numpy(numbers.astype(np.float32)).view(shape)
    raw = codes_of(unpack(payload, offset=offset, count=bits * count), bits)
    return torch.from_numpy(raw).view(shape)
