"""Epochs as rows under a head, for a terminal; files and pipes get the whole line (`vit.training.history.log_line`)."""
import math

from vit import terminal
from vit.training.history import evaluations_since_best


def row(epochs: list[dict], planned: int, stage: str, evaluated_on: str, columns: int) -> tuple[str, str]:
    """Tell of the last epoch in a row. Of a narrow window, it leaves out what stands furthest to the right.

    Args:
        epochs: As of `vit.training.history.History`.
        planned: How many there will be.
        stage: The stage's name.
        evaluated_on: Which images they are evaluated on, "test" or "validation".
        columns: The window's width.

    Returns:
        The row's head, which is the same for all epochs, and the row; an accuracy above all before it is bold.
    """
    heads, texts, taken = [], [], -2
    best = "accuracy" in epochs[-1] and evaluations_since_best(epochs) == 0
    for head, text, size in _cells(epochs[-1], planned, stage, evaluated_on):
        taken += 2 + size
        if taken > columns and heads:
            break
        heads.append(f"{head:>{size}}")
        text = f"{text:>{size}}"
        texts.append(terminal.styled(text, "bold") if best and head == "top-1" else text)
    return terminal.styled("  ".join(heads), "dim"), "  ".join(texts)


def _cells(epoch: dict, planned: int, stage: str, evaluated_on: str) -> list[tuple[str, str, int]]:
    """Each column's head, cell and width, the most important first."""
    classified = "accuracy" in epoch
    cells = [(stage, f"{epoch['epoch']}/{planned}", max(len(stage), 2 * len(str(planned)) + 1)),
             ("loss", _loss(epoch["train_loss"]), 7),
             (f"{'val.' if evaluated_on == 'validation' else evaluated_on} loss",
              _loss(epoch["eval_loss"]) if "eval_loss" in epoch else "-", 9),
             ("top-1", f"{epoch['accuracy']:.2%}" if classified else "-", 7),
             ("top-5", f"{epoch['top5']:.2%}" if classified else "-", 7),
             ("time", _time(epoch["train_seconds"] + epoch.get("eval_seconds", 0)), 8),
             ("images/s", f"{epoch['images_per_second']:,.0f}" if epoch["images_per_second"] else "-", 8),
             ("rate", f"{epoch['learning_rate']:.2e}", 8)]
    if "loss_scale" in epoch:
        cells += [("skipped", f"{epoch['skipped_steps']}", 7), ("scale", f"{epoch['loss_scale']:g}", 8)]
    return cells


def _loss(value: float) -> str:
    return f"{value:.4f}" if not math.isfinite(value) or abs(value) < 100 else f"{value:.1e}"


def _time(seconds: float) -> str:
    """Seconds as "59.9 s", or else as hours, minutes and seconds."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
