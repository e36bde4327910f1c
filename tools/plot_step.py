#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws where the time of one denoising step goes: stacked bars, from the JSON of step_rivals.py.

    python tools/plot_step.py bench/results/<date>-h200-flux-step.json docs/images/step-flux.svg
"""

import json
import os
import sys
from xml.sax.saxutils import escape

CLASSES = {  # of both sides, with a colour that colour-blind eyes tell apart
    "attention": "#7f7f7f",
    "dense product": "#0072b2",
    "sparse product": "#d55e00",
    "pack": "#e69f00",
    "rows": "#56b4e9",
    "fused elementwise": "#56b4e9",
    "other": "#cccccc",
}
NAMES = {"rows": "norms, gates, heads", "fused elementwise": "norms, gates, heads"}
LEFT, TOP, ROW, BAR, WIDTH = 250, 64, 34, 22, 560


def rows_of(result):
    for row in result["rivals"]:
        yield row["name"], row
    for row in result["variants"]:
        yield "rtlynx, " + row["name"], row


def scaled(row):
    """Kernel times of one profiled step, with the step's own time as their sum."""
    factor = row["ms"] / sum(row["ms_by_class"].values())
    return {kind: row["ms_by_class"].get(kind, 0) * factor for kind in CLASSES}


def legend():
    x, seen = LEFT, set()
    for kind, colour in CLASSES.items():
        name = NAMES.get(kind, kind)
        if name in seen:
            continue
        seen.add(name)
        yield f'<rect x="{x}" y="34" width="12" height="12" fill="{colour}"/>'
        yield f'<text x="{x + 16}" y="45">{escape(name)}</text>'
        x += 30 + 7 * len(name)


def bars(rows):
    longest = max(row["ms"] for _, row in rows)
    for index, (name, row) in enumerate(rows):
        y, x = TOP + index * ROW, float(LEFT)
        yield f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>'
        for kind, ms in scaled(row).items():
            width = ms / longest * WIDTH
            yield (f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" '
                   f'fill="{CLASSES[kind]}"/>')
            x += width
        yield f'<text x="{x + 6:.1f}" y="{y + 16}">{row["ms"]:.1f} ms</text>'


def draw(result):
    rows = list(rows_of(result))
    height = TOP + len(rows) * ROW + 8
    title = f'One step of {result["family"]}, {result["gpu"]}, {result["date"]}'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 90}" height="{height}" '
        f'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>',
        *legend(), *bars(rows), "</svg>\n"])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        picture = draw(json.load(file))
    temporary = sys.argv[2] + ".part"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(picture)
    os.replace(temporary, sys.argv[2])


if __name__ == "__main__":
    main()
