"""One page that holds all of a sweep, readable without a network: no script, no outside file."""

from collections.abc import Iterable, Sequence
from html import escape

from bitsweep.analysis.chart import Kind
from bitsweep.analysis.render import notes, plain_cells
from bitsweep.analysis.table import sweep_table
from bitsweep.errors import InputError
from bitsweep.figures.draw import sweep_chart
from bitsweep.store.reader import Reader
from bitsweep.store.records import TrialRow

_FIGURES: tuple[tuple[Kind, str], ...] = (
    ("pareto", "Accuracy against BitOps"),
    ("curves", "Learning curves"),
    ("layers", "Bits per layer"),
    ("importance", "What mattered in the search"),
)
# Of sweeps that learn bits, have a policy or search two parameters: others say nothing of them.
_WHERE_THERE_ARE: tuple[tuple[Kind, str], ...] = (
    ("epochs", "Bits learned over epochs"),
    ("trade", "What the policy trades"),
    ("choices", "What the policy chooses"),
    ("costs", "What single samples cost"),
    ("contour", "The two parameters that matter most"),
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .7rem; text-align: left; border-bottom: 1px solid #e4e4e4; }
td.number, th.number { text-align: right; }
pre { overflow-x: auto; padding: .8rem; background: #f5f5f5; }
figure { margin: 1rem 0; } figure svg { width: 100%; height: auto; }
.wide { overflow-x: auto; } .muted { color: #555; }
"""


def sweep_report(reader: Reader, sweep_name: str) -> str:
    """The page as HTML; raise UnknownName if there is no such sweep."""
    sweep = reader.sweep(sweep_name)
    table = sweep_table(reader, sweep_name)
    trials = reader.trial_rows(sweep.id)
    grid = plain_cells(table)
    arms = [[arm.name, arm.method, str(arm.configurations)] for arm in reader.arms(sweep.id)]
    parts = [
        f"<h1>{escape(sweep.name)}</h1>",
        f'<p class="muted">as of {escape(sweep.updated_at)}</p>',
        f"<p><strong>{escape(sweep.question)}</strong></p>",
        "<h2>Table</h2>",
        _table(grid, numbers=range(2, len(grid[0]))),
        *(f"<p>{escape(line)}</p>" for line in notes(table)),
        *_figures(reader, sweep_name),
        "<h2>Arms</h2>",
        _table([["arm", "method", "configurations searched"], *arms], numbers=(2,)),
        "<h2>Trials</h2>",
        *_trials(trials),
        "<h2>Provenance</h2>",
        _table(_provenance(reader, trials), numbers=()),
        "<h2>Again</h2>",
        f"<pre>{escape(sweep.command)}</pre>",
        f"<p>The sweep file (SHA-256 {escape(sweep.text_sha256)}):</p>",
        f"<pre>{escape(sweep.text)}</pre>",
    ]
    head = f'<meta charset="utf-8"><title>{escape(sweep.name)} - bitsweep</title>'
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}\n<style>{_STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def _table(grid: Sequence[Sequence[str]], *, numbers: Sequence[int]) -> str:
    """The first line is the header."""
    lines = []
    for place, row in enumerate(grid):
        kind = "td" if place else "th"
        cells = [
            f'<{kind} class="number">{escape(text)}</{kind}>'
            if column in numbers
            else f"<{kind}>{escape(text)}</{kind}>"
            for column, text in enumerate(row)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _figures(reader: Reader, sweep_name: str) -> Iterable[str]:
    """Each figure the sweep has data for; where it has none, the page says why."""
    from bitsweep.figures.paper import svg_text

    for kind, title in (*_FIGURES, *_WHERE_THERE_ARE):
        heading = f"<h2>{escape(title)}</h2>"
        try:
            chart = sweep_chart(reader, sweep_name, kind)
        except InputError as error:
            if (kind, title) in _FIGURES:
                yield f'{heading}<p class="muted">{escape(str(error))}.</p>'
            continue
        yield heading
        drawing = svg_text(chart, prefix=kind)
        yield f'<figure role="img" aria-label="{escape(title)}">{drawing}</figure>'


def _trials(trials: Sequence[TrialRow]) -> Iterable[str]:
    """How many ended how, and each that went wrong with its reason."""
    statuses = [one.status for one in trials]
    counted = ", ".join(f"{statuses.count(one)} {one}" for one in dict.fromkeys(statuses))
    yield f"<p>{escape(counted or 'No trial was planned')}.</p>"
    wrong = [
        [one.trial_id[:12], one.arm or "start", one.bits, str(one.seed), one.status, one.reason]
        for one in trials
        if one.status in ("failed", "diverged")
    ]
    if wrong:
        yield _table([["trial", "arm", "bits", "seed", "status", "reason"], *wrong], numbers=())


def _provenance(reader: Reader, trials: Sequence[TrialRow]) -> list[list[str]]:
    """Each combination of code, packages and machine that attempts ran with, once."""
    found = dict.fromkeys(
        (
            str(row["git_commit"] or "not in a repository"),
            {True: "changed", False: "clean", None: "unknown"}[row["git_is_dirty"]],
            str(row["hostname"]),
            str(row["device"]),
            ", ".join(f"{name} {version}" for name, version in row["versions"].items()),
        )
        for trial_id in dict.fromkeys(one.trial_id for one in trials)
        for row in reader.provenance(trial_id)
    )
    return [["commit", "tree", "host", "device", "packages"], *map(list, found)]
