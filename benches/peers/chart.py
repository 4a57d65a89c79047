"""Bar charts as SVG. The scale is logarithmic: the brokers are orders of magnitude apart."""

import math
from html import escape

COLORS = {"floor": "#bbbbbb", "rabbitmq": "#ff7f0e", "leveret": "#1f77b4"}
LABEL_WIDTH, BAR_WIDTH, VALUE_WIDTH = 400, 460, 80
BAR, GAP, TOP = 13, 12, 56


def bars(title, groups, names):
    """A chart of `groups`, each a label and its values by broker (None where there is none)."""
    groups = [(label, {name: value for name, value in values.items() if value}) for label, values in groups]
    groups = [(label, values) for label, values in groups if values]
    everything = [value for _, values in groups for value in values.values()] or [1, 10]
    low = 10 ** math.floor(math.log10(min(everything)))
    high = 10 ** math.ceil(math.log10(max(everything) * 1.001))
    height = TOP + sum(len(values) * BAR + GAP for _, values in groups) + 8
    width = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
             'font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="white"/>',
             text(width / 2, 20, f"{title} (logarithmic)", anchor="middle", size=15)]
    parts += legend(names) + grid(low, high, height)
    y = TOP
    for label, values in groups:
        parts.append(text(LABEL_WIDTH - 8, y + len(values) * BAR / 2 + 4, label, anchor="end"))
        for name, value in values.items():
            length = position(value, low, high)
            parts.append(f'<rect x="{LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="{BAR - 2}" '
                         f'fill="{COLORS[name]}"/>')
            parts.append(text(LABEL_WIDTH + length + 4, y + BAR - 3, short(value), size=10))
            y += BAR
        y += GAP
    return "\n".join(parts + ["</svg>"]) + "\n"


def position(value, low, high):
    # The shortest bar must be seen too.
    return 3 + (BAR_WIDTH - 3) * math.log10(value / low) / math.log10(high / low)


def legend(names):
    parts, x = [], LABEL_WIDTH
    for name, shown in names.items():
        parts.append(f'<rect x="{x}" y="32" width="11" height="11" fill="{COLORS[name]}"/>')
        parts.append(text(x + 15, 42, shown))
        x += 90
    return parts


def grid(low, high, height):
    parts, value = [], low
    while value <= high:
        x = LABEL_WIDTH + position(value, low, high)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{height - 6}" stroke="#dddddd"/>')
        value *= 10
    return parts


def text(x, y, content, anchor="start", size=12):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(content)}</text>'


def short(value):
    for factor, unit in ((1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"
