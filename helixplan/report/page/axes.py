"""Axes of a chart: where a value lies, which values get a tick, and the lines and words for them.

A chart has no size of its own: places are per cent of its frame and letters are the page's, so that it is as wide as the screen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from helixplan.report.page.elements import Markup, element, joined


@dataclass(frozen=True)
class Scale:
    """From ``low`` at the axis's start to ``high`` at its end, in steps or in decades."""

    low: float
    high: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Per cent of the axis's length."""
        by: Callable[[float], float] = math.log10 if self.logarithmic else float
        return 100 * (by(value) - by(self.low)) / (by(self.high) - by(self.low))

    def ticks(self) -> list[float]:
        """Round values: 1, 2 and 5 of each decade, or multiples of such a number, four to nine of them on a plain axis."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            marks = (1, 2, 5) if self.high / self.low < 1000 else (1,)
            found = [mark * 10.0**decade for decade in decades for mark in marks]
        else:
            step = self._step((self.high - self.low) / 4)
            found = [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [value for value in found if self.low <= value <= self.high]

    @staticmethod
    def _step(most: float) -> float:
        """The largest of 1, 2 and 5 of a decade that is at most ``most``."""
        decade = 10.0 ** math.floor(math.log10(most))
        return max(mark * decade for mark in (1, 2, 5) if mark * decade <= most * (1 + 1e-9))


def percent(value: float) -> str:
    return f"{value:.2f}%"


def axes(x: Scale, y: Scale, x_name: str, y_name: str) -> Markup:
    """Grid lines, ticks and names of both axes; y grows upwards."""
    parts = []
    for value in x.ticks():
        place = percent(x.at(value))
        parts.append(element("line", x1=place, x2=place, y1="0", y2="100%", class_="grid"))
        parts.append(element("text", f"{value:g}", x=place, y="100%", dy="1.3em", text_anchor="middle"))
    for value in y.ticks():
        place = percent(100 - y.at(value))
        parts.append(element("line", x1="0", x2="100%", y1=place, y2=place, class_="grid"))
        parts.append(element("text", f"{value:g}", x="0", y=place, dx="-0.5em", dy="0.35em", text_anchor="end"))
    parts.append(element("text", x_name, x="50%", y="100%", dy="2.8em", text_anchor="middle"))
    parts.append(element("text", y_name, x="0", y="0", dx="-3.5em", dy="-0.7em"))
    return joined(parts)
