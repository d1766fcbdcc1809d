"""What a conversion did to each tensor, in lines."""
from dataclasses import dataclass, field


@dataclass
class Report:
    """What was recognised, and what became of every tensor.

    Args:
        recognised: The container and the layout, in words.
        rows: Of each tensor: "read", "resized", "dropped" or "new"; its name here (or theirs, if dropped); its shape;
            and where it came from or why.
        notes: What the file does not say and was therefore taken to be so.
        built: How another project must build its model for a file written for it, if not by its defaults.
    """
    recognised: str = ""
    rows: list[tuple[str, str, tuple[int, ...], str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    built: str = ""

    def add(self, action: str, name: str, shape: tuple[int, ...], why: str) -> None:
        """One row."""
        self.rows.append((action, name, tuple(shape), why))

    def named(self, action: str) -> list[str]:
        """The names of the rows of one action."""
        return [name for kind, name, _, _ in self.rows if kind == action]

    def summary(self) -> str:
        """One line: what was recognised and how many tensors became what."""
        counts = [f"{len(self.named(action))} {action}" for action in ("read", "resized", "dropped", "new")
                  if self.named(action)]
        return f"{self.recognised}: {', '.join(counts)}"

    def __str__(self) -> str:
        width = max((len(name) for _, name, _, _ in self.rows), default=0)
        lines = [f"{action:8} {name:{width}} {list(shape)!s:20} {why}".rstrip()
                 for action, name, shape, why in self.rows]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes), self.summary()])
