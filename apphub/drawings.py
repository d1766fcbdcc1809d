"""The notebook's two drawings, made from the model's spec and from the op graph's source: they show what is there."""
import ast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from vit.model.config import ViTConfig

_BLUE, _ORANGE, _GREY, _GREEN, _PINK = "#cfe2f7", "#ffcf8f", "#e4e4e4", "#d3ecd0", "#f6d3d8"


def cut(image: np.ndarray, patch: int) -> np.ndarray:
    """An image [S, S, C] as its patches [patches, P, P, C], row by row."""
    S, _, C = image.shape
    grid = S // patch
    return image.reshape(grid, patch, grid, patch, C).swapaxes(1, 2).reshape(-1, patch, patch, C)


def model(figure: Figure, config: ViTConfig, image: np.ndarray) -> None:
    """Draw a ViT: the image's patches, the tokens, the blocks with one of them opened, and the head.

    Args:
        figure: An empty figure, about 12 x 6.6 inches.
        config: The model's spec (with a class token).
        image: uint8 [S, S, 3].
    """
    axes = _canvas(figure, 24, 13.2)
    S, P, D, G = config.image_size, config.patch_size, config.width, config.grid
    patches = cut(image, P)
    # All patches if they fit, else the first and the last with a gap (None) between.
    count = len(patches)
    shown = list(range(count)) if count <= 16 else [*range(9), None, *range(count - 6, count)]
    first, step, side = 5.0, 0.66, 0.56
    class_x, end = first + side / 2, first + step * len(shown) + side
    centres = [first + step * (i + 1) + side / 2 for i in range(len(shown))]

    # The image with its grid, and the patches.
    axes.imshow(image, extent=(0.2, 3.8, 0.3, 3.9), zorder=2)
    for line in range(G + 1):
        axes.plot([0.2, 3.8], [0.3 + line * 3.6 / G] * 2, color="#e07b00", lw=0.8, zorder=3)
        axes.plot([0.2 + line * 3.6 / G] * 2, [0.3, 3.9], color="#e07b00", lw=0.8, zorder=3)
    axes.text(2, 4.2, f"an image, {S} x {S} x {config.in_channels}", ha="center", va="bottom")
    _arrow(axes, (3.9, 0.88), (5.5, 0.88))
    for x, index in zip(centres, shown, strict=True):
        if index is None:
            axes.text(x, 0.8, "...", ha="center", va="center")
            continue
        axes.imshow(patches[index], extent=(x - side / 2, x + side / 2, 0.6, 0.6 + side), vmin=0, vmax=255, zorder=2)
        axes.add_patch(Rectangle((x - side / 2, 0.6), side, side, fill=False, color="#e07b00", lw=0.8, zorder=3))
        _arrow(axes, (x, 1.25), (x, 1.75), small=True)
        _arrow(axes, (x, 2.6), (x, 3.1), small=True)
    axes.text((centres[0] + end) / 2, 0.38, f"its {config.patches} patches of {P} x {P}", ha="center", va="top")
    _box(axes, centres[0] - side / 2, 1.75, end - centres[0] + side / 2, 0.85,
         f"patch_embed: one linear layer, {P}·{P}·{config.in_channels} = {P * P * config.in_channels} values "
         f"to {D}", _BLUE)

    # Tokens and their positions.
    for x, index, colour in zip([class_x, *centres], [0, *(i if i is None else i + 1 for i in shown)],
                                [_ORANGE, *[_BLUE] * len(shown)], strict=True):
        if index is None:
            axes.text(x, 3.4, "...", ha="center", va="center")
            continue
        _box(axes, x - side / 2, 3.1, side, side, "", colour)
        axes.text(x, 3.98, "+", ha="center", va="center", fontsize=8)
        _box(axes, x - side / 2, 4.25, side, side, str(index), _GREY, fontsize=8)
        _arrow(axes, (x, 4.88), (x, 5.5), small=True)
    axes.annotate("cls_token\n(learned)", (class_x, 3.08), (class_x - 0.25, 1.9), ha="center", va="center", fontsize=9,
                  arrowprops={"arrowstyle": "-", "lw": 0.7, "color": "grey"})
    axes.text(end + 0.15, 3.38, f"{config.tokens} tokens,\nwidth {D}", va="center", fontsize=9)
    axes.text(end + 0.15, 4.62, "pos_embed\n(learned)", va="center", fontsize=9)

    # The blocks, and what leaves them.
    for shift in (0.3, 0.15, 0):
        _box(axes, first + shift, 5.5 + shift, end - first, 1.5, "", _GREEN)
    axes.text((first + end) / 2, 6.25, f"{config.depth} blocks: {config.tokens} tokens in, {config.tokens} tokens out",
              ha="center", va="center")
    classes = config.pool == "cls"
    x = class_x if classes else (first + end) / 2
    _arrow(axes, (x, 7.35), (x, 8.0))
    _box(axes, x - 1.4, 8.0, 2.8, 0.8, "norm (LayerNorm)", _PINK)
    _arrow(axes, (x, 8.8), (x, 9.5))
    _box(axes, x - 1.4, 9.5, 2.8, 0.8, f"head: {D} to {config.num_classes}", _ORANGE)
    _arrow(axes, (x, 10.3), (x, 11.0))
    axes.text(x, 11.1, f"a score (logit) for each\nof {config.num_classes} classes", ha="center", va="bottom")
    axes.text(x + 1.8, 7.95, "only the class token goes on:\nit has gathered what the\npatches had to say" if classes
              else "the mean of the patch\ntokens goes on", va="bottom", fontsize=9, color="#444444")
    _block(axes, config, 20.9)
    for y in (5.5, 7.0):
        axes.plot([end, 19.1], [y, 1.2 if y < 6 else 12.1], color="grey", lw=0.7, ls=":")


def _block(axes: Axes, config: ViTConfig, x: float) -> None:
    """One block, opened, from the bottom up around the vertical line at x."""
    _box(axes, x - 1.8, 1.2, 4.1, 10.9, "", "#f3faf2")
    axes.text(x + 0.25, 12.25, f"one block ({config.norm_order}-norm)", ha="center", va="bottom")
    attention = (f"attention\n{config.heads} heads of {config.width // config.heads}", _BLUE, 1.2)
    mlp = (f"mlp: {config.width} to {config.mlp_dim},\nGELU, to {config.width}", _ORANGE, 1.2)
    pre = config.norm_order == "pre"
    y, branch = 1.3, 1.3
    axes.text(x, 0.4, "tokens", ha="center", va="top", fontsize=9)
    axes.plot([x, x], [0.5, y], color="black", lw=1)
    for norm, layer in (("norm1", attention), ("norm2", mlp)):
        norm = (norm, _PINK, 0.8)
        for step in ([norm, layer, None] if pre else [layer, None, norm]):
            _arrow(axes, (x, y), (x, y + 0.75))
            if step is norm if pre else step is layer:
                branch = y + 0.37
            y += 0.75
            if step is None:  # the sum with what the half began with
                axes.plot([x, x + 2.0, x + 2.0], [branch, branch, y + 0.3], color="black", lw=1)
                _arrow(axes, (x + 2.0, y + 0.3), (x + 0.32, y + 0.3))
                axes.text(x, y + 0.3, "+", ha="center", va="center", fontsize=11, zorder=5,
                          bbox={"boxstyle": "circle,pad=0.12", "fc": "white", "ec": "black", "lw": 1})
                y += 0.6
            else:
                text, colour, height = step
                _box(axes, x - 1.55, y, 3.1, height, text, colour, fontsize=9)
                y += height
    _arrow(axes, (x, y), (x, 12.0))


def network_ops(source: str) -> list[tuple[str, list[str], list[str]]]:
    """List the ops of `fit`'s `fe.Network` in float32, one worker and a stage with classes: of each its name, the keys
    that it reads, and those that it makes."""
    def value(node: ast.expr) -> str | list[str]:
        node = node.orelse if isinstance(node, ast.IfExp) else node  # float16 and several workers have others there
        # The images; a model with dropout takes their keys as well.
        return "x" if ast.unparse(node) == "stage.train_inputs" else ast.literal_eval(node)

    def keys(call: ast.Call, *names: str) -> list[str]:
        found = [value(keyword.value) for keyword in call.keywords if keyword.arg in names]
        return [key for item in found for key in ([item] if isinstance(item, str) else item)]

    nodes = list(ast.walk(ast.parse(source)))
    network = next(node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "fe.Network")
    given = next(keyword.value.elts for keyword in network.keywords if keyword.arg == "ops")
    lists = {node.targets[0].id: node.value.elts for node in reversed(nodes)  # what is assigned first counts
             if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)}
    ops = [op for one in given for op in (lists.get(ast.unparse(one.value), [])
                                          if isinstance(one, ast.Starred) else [one])]
    return [(op.func.id, keys(op, "inputs", "loss_name"), keys(op, "outputs")) for op in ops
            if isinstance(op, ast.Call) and keys(op, "mode") in ([], ["train"])]


def op_graph(figure: Figure, source: str) -> None:
    """Draw the op graph that `vit.training.train.fit` builds: boxes are ops, arrows the keys between them.

    Args:
        figure: An empty figure, about 10 x 2.6 inches.
        source: Python source of the function.
    """
    axes = _canvas(figure, 20, 5.2)
    boxes = [("Pipeline", [], ["x", "y"]), *network_ops(source)]
    width, gap = 3.2, (20 - 3.2 * len(boxes)) / (len(boxes) - 1)
    made = {}
    for i, (name, reads, makes) in enumerate(boxes):
        left = i * (width + gap)
        _box(axes, left, 2.2, width, 1.2, name, _GREY if i == 0 else _BLUE)
        for key in reads:
            start = made[key]
            if start == i - 1:
                _arrow(axes, (left - gap, 2.8), (left, 2.8))
                axes.text(left - gap / 2, 2.95, key, ha="center", va="bottom", family="monospace")
            else:  # below the boxes between
                a, b = start * (width + gap) + width / 2, left + width / 2
                axes.plot([a, a, b], [2.2, 1.1, 1.1], color="black", lw=1)
                _arrow(axes, (b, 1.1), (b, 2.2))
                axes.text((a + b) / 2, 1.2, key, ha="center", va="bottom", family="monospace")
        made |= dict.fromkeys(makes, i)
        if name == "UpdateOp":
            a, b = left + width / 2, width + gap + width / 2
            axes.plot([a, a, b], [3.4, 4.4, 4.4], color="grey", lw=1, ls="--")
            _arrow(axes, (b, 4.4), (b, 3.4), colour="grey")
            axes.text((a + b) / 2, 4.5, "gradients of the loss, a step of the optimizer: the model's next weights",
                      ha="center", va="bottom", color="#444444", fontsize=9)
    axes.text(10, 0.55, "the traces see every key: Accuracy, BestModelSaver, and the history that the curves below are "
              "drawn from", ha="center", va="top", color="#444444", fontsize=9)


def _canvas(figure: Figure, width: float, height: float) -> Axes:
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set(xlim=(-0.1, width + 0.1), ylim=(0, height), autoscale_on=False)
    return axes


def _box(axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str,
         fontsize: float = 10) -> None:
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.12", fc=colour,
                                  ec="#555555", lw=0.9, zorder=2))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=fontsize, zorder=4)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], small: bool = False,
           colour: str = "black") -> None:
    axes.annotate("", end, start, zorder=4,
                  arrowprops={"arrowstyle": "-|>", "lw": 0.6 if small else 1, "color": colour, "shrinkA": 0,
                              "shrinkB": 0, "mutation_scale": 5 if small else 11})
