"""How a metric is shown: its title, unit and digits, all told by its name and nothing else.

Names carry their unit, so that a table needs no trainer to be installed.
"""

from dataclasses import dataclass

_TOP1 = "top1_percent"
_UNITS = {"percent": ("%", "points", 2), "db": ("dB", "dB", 2), "seconds": ("s", "s", 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A metric for people; `difference_unit` follows a difference of two values, "" for none."""

    title: str
    unit: str
    difference_unit: str
    decimals: int

    @property
    def header(self) -> str:
        """Title and unit, as a column has them."""
        return f"{self.title} {self.unit}".rstrip()

    @property
    def in_brackets(self) -> str:
        """ " (%)", or nothing without a unit: behind the label of an axis."""
        return f" ({self.unit})" if self.unit else ""

    def number(self, value: float) -> str:
        """A value without its unit."""
        return f"{value:.{self.decimals}f}"

    def difference(self, value: float) -> str:
        """A difference with its sign, without its unit."""
        return f"{value:+.{self.decimals}f}"


def shown(metric: str) -> Shown:
    """How to show a metric of this name.

    >>> shown("top1_percent").header, shown("cosine_similarity").header, shown("nmse_db").header
    ('top-1 %', 'cosine similarity', 'nmse dB')
    """
    if metric == _TOP1:
        return Shown(title="top-1", unit="%", difference_unit="points", decimals=2)
    stem, _, last = metric.rpartition("_")
    if stem and last in _UNITS:
        unit, difference_unit, decimals = _UNITS[last]
        title = stem.replace("_", " ")
        return Shown(title=title, unit=unit, difference_unit=difference_unit, decimals=decimals)
    return Shown(title=metric.replace("_", " "), unit="", difference_unit="", decimals=4)
