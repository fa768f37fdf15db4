# SPDX-License-Identifier: Apache-2.0
"""Bar charts as SVG, readable on light and on dark ground. Pure: from values to text."""
from xml.sax.saxutils import escape

STYLE = """<style>
  text { font: 12px sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: bold }
  .note { fill: #57606a }
  .axis { stroke: #8c959f; stroke-width: 1 }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .must { stroke: #24292f; stroke-width: 2.5 }
  .met { fill: #1a7f37 } .missed { fill: #cf222e } .plain { fill: #0969da } .other { fill: #8c959f }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note { fill: #9da7b3 }
    .axis { stroke: #6e7681 }
    .grid { stroke: #30363d }
    .must { stroke: #e6edf3 }
    .met { fill: #3fb950 } .missed { fill: #f85149 } .plain { fill: #58a6ff } .other { fill: #6e7681 }
  }
</style>"""
WIDTH, LABEL, VALUE, ROW, TOP, BOTTOM = 960, 330, 190, 24, 58, 34


class Bar:
    """One bar: `must` draws a line where it should reach; `kind` is one of the classes above."""

    def __init__(self, label, value, text, kind="plain", must=None):
        self.label = label
        self.value = value
        self.text = text
        self.kind = kind
        self.must = must


def nice_step(largest, lines=6):
    """The distance of grid lines, 1, 2 or 5 times a power of ten: at most `lines` of them."""
    step = 1e-9
    while True:
        for factor in (1, 2, 5):
            if largest / (step * factor) <= lines:
                return step * factor
        step *= 10


def number(x):
    return f"{x:.0f}" if x == int(x) and x < 10000 else f"{x:,.6g}"


def _grid(largest, scale, height):
    out, step, i = [], nice_step(largest), 0
    while i * step <= largest * 1.0001:
        x = LABEL + i * step * scale
        out.append(f'<line class="{"axis" if i == 0 else "grid"}" x1="{x:.1f}" y1="{TOP - 4}" '
                   f'x2="{x:.1f}" y2="{height - BOTTOM + 4}"/>')
        out.append(f'<text class="note" x="{x:.1f}" y="{height - BOTTOM + 18}" '
                   f'text-anchor="middle">{number(round(i * step, 9))}</text>')
        i += 1
    return out


def bars(title, note, items):
    """The chart. A bar without a value (None) shows its text only."""
    height = TOP + ROW * len(items) + BOTTOM
    largest = max([b.value for b in items if b.value is not None] +
                  [b.must for b in items if b.must is not None] + [1e-9])
    scale = (WIDTH - LABEL - VALUE) / largest
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
           f'height="{height}" role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">', STYLE,
           f'<text class="title" x="12" y="22">{escape(title)}</text>',
           f'<text class="note" x="12" y="42">{escape(note)}</text>', *_grid(largest, scale, height)]
    for i, b in enumerate(items):
        y = TOP + i * ROW
        end = LABEL + (b.value or 0) * scale
        out.append(f'<text x="{LABEL - 8}" y="{y + 16}" text-anchor="end">{escape(b.label)}</text>')
        if b.value is not None:
            out.append(f'<rect class="{b.kind}" x="{LABEL}" y="{y + 4}" '
                       f'width="{max(end - LABEL, 0.5):.1f}" height="{ROW - 8}"/>')
        if b.must is not None:
            x = LABEL + b.must * scale
            out.append(f'<line class="must" x1="{x:.1f}" y1="{y + 1}" x2="{x:.1f}" y2="{y + ROW - 1}"/>')
            end = max(end, x)
        out.append(f'<text x="{end + 6:.1f}" y="{y + 16}">{escape(b.text)}</text>')
    return "\n".join(out + ["</svg>", ""])
