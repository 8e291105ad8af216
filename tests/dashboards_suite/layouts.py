"""Looking into Dash layouts: all components, their texts, and the exact values of cells."""

import json
from collections.abc import Iterator
from typing import Any


def parts(component: Any) -> Iterator[Any]:
    """A component and all below it, texts among them."""
    yield component
    below = getattr(component, "children", None)
    for child in below if isinstance(below, list | tuple) else [below]:
        if child is not None:
            yield from parts(child)


def text_of(component: Any) -> str:
    """All texts, one a line."""
    return "\n".join(str(one) for one in parts(component) if isinstance(one, str | int))


def of_type(component: Any, name: str) -> list[Any]:
    """The components of one kind."""
    return [one for one in parts(component) if type(one).__name__ == name]


def exact_rows(table: Any) -> list[dict[str, Any]]:
    """The values that the cells carry, row by row."""
    rows = []
    for line in of_type(table, "Tr"):
        cells = [cell for cell in line.children if hasattr(cell, "data-value")]
        if cells:
            rows.append(
                {getattr(one, "data-key"): json.loads(getattr(one, "data-value")) for one in cells}
            )
    return rows
