"""How a line of each framework, and of each pair of them, is drawn: told apart without colour as well.

The colours are Okabe and Ito's, which remain different whatever colours one sees.
"""
from itertools import combinations

from vit.backend import SCRIPTS

ORANGE, SKY, GREEN, BLUE, VERMILION = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00"

# Thinner over wider, the last one dashed: lines that lie on each other are all seen.
FRAMEWORKS = {
    "torch": {"color": ORANGE, "linewidth": 8.0, "marker": "o", "markersize": 13, "markeredgecolor": "black"},
    "tf": {"color": SKY, "linewidth": 4.0, "marker": "s", "markersize": 9, "markeredgecolor": "black"},
    "ms": {"color": "black", "linewidth": 1.4, "linestyle": (0, (4, 3)), "marker": "^", "markersize": 6},
}
PAIRS = {pair: {"color": color, "marker": marker, "markersize": 6} for pair, color, marker in
         zip(combinations(SCRIPTS, 2), (BLUE, GREEN, VERMILION), ("o", "s", "^"), strict=True)}
