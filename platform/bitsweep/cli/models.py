"""The verb that takes a trained network out: export-model."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitsweep.cli.places import JsonOption, StoreOption, WorkOption, store_address, work_place
from bitsweep.cli.results import open_reader
from bitsweep.errors import InputError
from bitsweep.exporter import ExportForm

if TYPE_CHECKING:
    from bitsweep.bits import Bits
    from bitsweep.exporter import SameLayers, SameLogits
    from bitsweep.model_export import ModelExport

NOT_THE_SAME = 1


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("export-model")(export_model)


def export_model(
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="The first digits of its id.")],
    output: Annotated[Path, typer.Option("--output", help="The file to write.")],
    form: Annotated[ExportForm, typer.Option("--format", help="What to write.")] = "packed",
    bits: Annotated[
        str | None, typer.Option("--bits", help="For onnx: the width, such as 4 or w4a4.")
    ] = None,
    store: StoreOption = None,
    workspaces: WorkOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a trial's network as packed integers or ONNX, read it back and compare.

    Exit code 0: size and logits are what was measured, or an ONNX graph's layers are the
    network's; 1: they are not; 2: bad input.
    """
    from bitsweep.model_export import export_model as run

    made = run(
        open_reader(store),
        store_address(store),
        trial,
        output,
        form=form,
        bits=_bits(bits),
        work=work_place(workspaces),
    )
    typer.echo(json.dumps(_document(made, output)) if as_json else _text(made, output))
    if made.faults:
        raise typer.Exit(NOT_THE_SAME)


def _bits(text: str | None) -> "Bits | None":
    from bitsweep.bits import parse_bits

    if text is None:
        return None
    try:
        return parse_bits(int(text) if text.isdigit() else text)
    except ValueError as error:
        raise InputError(f"--bits: {error}") from error


def _answers(one: "SameLogits", recorded: int | None) -> str:
    if one.num_correct is None:
        return ""
    shown = "" if recorded is None else f", recorded {recorded}"
    return f", top-1 agrees on {one.num_agreeing}; {one.num_correct} correct{shown}"


def _difference(one: "SameLogits") -> str:
    return "not finite" if one.largest_difference is None else f"{one.largest_difference:.3g}"


def _layers(layers: "SameLayers") -> str:
    return (
        f"layer by layer on equal inputs, {layers.num_images} images: {layers.num_compared} "
        f"operations, {len(layers.apart)} apart; {layers.num_at_edges} of {layers.num_codes} "
        "codes on the other side of a rounding edge"
    )


def _document(made: "ModelExport", output: Path) -> dict[str, object]:
    return {
        "trial": made.trial.id,
        "output": str(output),
        "recorded_bits": made.recorded_bits,
        "recorded_correct": dict(made.recorded_correct),
        "faults": list(made.faults),
        **asdict(made.exported),
    }


def _text(made: "ModelExport", output: Path) -> str:
    exported = made.exported
    lines = [f"{output}: {exported.file_bytes} bytes, trial {made.trial.short_id}"]
    if exported.payload_bits is not None:
        recorded = "none" if made.recorded_bits is None else str(made.recorded_bits)
        lines.append(
            f"payload {exported.payload_bits} bits, claimed {exported.claimed_bits}, "
            f"recorded {recorded}; besides {exported.header_bytes} bytes of header and "
            f"{exported.padding_bits} bits of padding"
            + (f", and {exported.policy_bits} of the policy" if exported.policy_bits else "")
        )
    for one in exported.widths:
        correct = made.recorded_correct.get(one.bits)
        lines.append(
            f"{one.bits}: largest logit difference {_difference(one)} "
            f"(logits up to {one.largest_logit:.3g}), {one.num_apart} of {one.images} apart"
            + _answers(one, correct)
        )
    if exported.layers is not None:
        lines.append(_layers(exported.layers))
    return "\n".join([*lines, *(f"FAULT: {one}" for one in made.faults)])
