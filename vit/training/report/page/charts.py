"""Curves as SVG: a line for each run, told apart by marker and dashes as well as by colour."""
import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 42
_MOST_MARKERS = 16  # on a line; all of its points are drawn
# Around 0, 0. page.css has as many colours: Okabe and Ito's, which remain different whatever colours one sees.
MARKERS = ("M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z", "M0 -5.5L5.2 4H-5.2z", "M-4 -4H4V4H-4z",
           "M0 -5.8L5.8 0L0 5.8L-5.8 0z", "M0 5.5L5.2 -4H-5.2z", "M-5.5 -2H-2V-5.5H2V-2H5.5V2H2V5.5H-2V2H-5.5z",
           "M-5.5 -3.2L0 -6L5.5 -3.2V3.2L0 6L-5.5 3.2z")


@dataclass(frozen=True)
class Line:
    """One curve.

    Args:
        label: What it is, for who points at it or has it read.
        style: Its number: its colour and marker.
        points: Epoch and value of each point, in order; a value that is None leaves a gap.
        dashed: Whether it is dashed, with hollow markers.
    """
    label: str
    style: int
    points: list[tuple[float, float | None]]
    dashed: bool = False


def style(number: int) -> str:
    """The class of a curve's colour; where all colours are taken, the first comes again, with the next marker."""
    return f"k{number % len(MARKERS)}"


def marker(number: int) -> str:
    """The outline of a curve's marker."""
    return MARKERS[(number + number // len(MARKERS)) % len(MARKERS)]


def key(number: int) -> str:
    """A small plot of a curve, for the legend and for tables."""
    return (f'<svg class="key {style(number)}" viewBox="-16 -8 32 16" aria-hidden="true"><path class="line" '
            f'd="M-16 0H16"/><path class="mark" d="{marker(number)}"/></svg>')


def chart(title: str, unit: str, lines: list[Line], percent: bool = False) -> str:
    """Draw curves over epochs, as an SVG element that is as wide as its place.

    Args:
        title: What is drawn, for who has it read.
        unit: What stands beside the axis.
        lines: The curves.
        percent: Whether values are shares, drawn from 0 to 100 %; else the axis goes from 0 to the highest.
    """
    values = [value for line in lines for _, value in line.points if value is not None]
    last = max((x for line in lines for x, _ in line.points), default=1)
    top = 1.0 if percent else 1.05 * max(max(values, default=1), 1e-9)
    x_ticks = [tick for tick in _ticks(last) if tick >= 1 and tick == int(tick)] or [1]
    x_first, x_last = 0.5, last + 0.5  # a whole axis for a single epoch, too

    def x_of(x: float) -> float:
        return round(_LEFT + (x - x_first) / (x_last - x_first) * (WIDTH - _LEFT - _RIGHT), 1)

    def y_of(y: float) -> float:
        return round(HEIGHT - _BOTTOM - min(max(y / top, 0), 1) * (HEIGHT - _TOP - _BOTTOM), 1)

    parts = []
    for tick in _ticks(top):
        label = f"{100 * tick:.0f}" if percent else f"{tick:.4g}"
        parts.append(f'<path class="grid" d="M{_LEFT} {y_of(tick)}H{WIDTH - _RIGHT}"/>'
                     f'<text class="right" x="{_LEFT - 7}" y="{y_of(tick) + 4.5}">{label}</text>')
    for tick in x_ticks:
        parts.append(f'<path class="grid" d="M{x_of(tick)} {HEIGHT - _BOTTOM}v5"/>'
                     f'<text class="middle" x="{x_of(tick)}" y="{HEIGHT - _BOTTOM + 19}">{tick:,.0f}</text>')
    parts.append(f'<text class="middle" x="{(WIDTH + _LEFT) / 2}" y="{HEIGHT - 4}">epoch</text>'
                 f'<text class="middle" transform="translate(13 {(HEIGHT - _BOTTOM + _TOP) / 2}) rotate(-90)">'
                 f'{escape(unit)}</text>')
    parts += [_line(line, x_of, y_of, percent) for line in lines]
    return (f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
            f'{"".join(parts)}</svg>')


def _line(line: Line, x_of, y_of, percent: bool) -> str:
    pieces, piece = [], []
    for x, y in [*line.points, (0, None)]:
        if y is not None:
            piece.append(f"{x_of(x)} {y_of(y)}")
        elif piece:
            pieces.append("M" + "L".join(piece))
            piece = []
    points = [(x, y) for x, y in line.points if y is not None]
    step = math.ceil(len(points) / _MOST_MARKERS)
    size = 1.6 if len(points) == 1 else 1  # a point that no line leads to is to be seen as well
    shown = [point for number, point in enumerate(points) if (len(points) - 1 - number) % step == 0] if step else []
    marks = "".join(
        f'<path class="mark" d="{marker(line.style)}" transform="translate({x_of(x)} {y_of(y)}) scale({size})"><title>'
        f'{escape(line.label)}, epoch {x:,.0f}: {f"{100 * y:.2f} %" if percent else f"{y:.4f}"}</title></path>'
        for x, y in shown)
    dashed = " dashed" if line.dashed else ""
    return f'<g class="{style(line.style)}{dashed}"><path class="line" d="{"".join(pieces)}"/>{marks}</g>'


def _ticks(top: float, most: int = 6) -> list[float]:
    """Round numbers from 0 to `top`, a step of 1, 2 or 5 times a power of ten apart."""
    rough = top / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [round(step * number, 12) for number in range(int(top / step * 1.000001) + 1)]
