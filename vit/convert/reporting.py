"""The report of a conversion: what was recognised, and what became of each tensor."""
from dataclasses import dataclass, field

from vit.files.usage import Usage


@dataclass
class Report:
    """What was recognised, and what became of each tensor.

    Args:
        recognised: The container and the layout, in words.
        rows: One tuple for each tensor: "read", "resized", "dropped" or "new"; its canonical name (or the file's name,
            if it was dropped); its shape; and which names it came from, or why it was dropped or is new.
        notes: What the file does not say, and what was assumed instead.
        built: The arguments with which another project must build its model to load a file that was written for it,
            where its defaults are not enough.
        usage: How the model is used, as far as the file says it.
    """
    recognised: str = ""
    rows: list[tuple[str, str, tuple[int, ...], str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    built: str = ""
    usage: Usage = field(default_factory=Usage)

    def add(self, action: str, name: str, shape: tuple[int, ...], why: str) -> None:
        """Add one tensor's row."""
        self.rows.append((action, name, tuple(shape), why))

    def named(self, action: str) -> list[str]:
        """Return the names of the rows with an action."""
        return [name for kind, name, _, _ in self.rows if kind == action]

    def summary(self) -> str:
        """Return one line: what was recognised, and how many tensors were read, resized, dropped or are new."""
        counts = [f"{len(self.named(action))} {action}" for action in ("read", "resized", "dropped", "new")
                  if self.named(action)]
        return f"{self.recognised}: {', '.join(counts)}"

    def __str__(self) -> str:
        width = max((len(name) for _, name, _, _ in self.rows), default=0)
        lines = [f"{action:8} {name:{width}} {list(shape)!s:20} {why}".rstrip()
                 for action, name, shape, why in self.rows]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes), self.summary()])
