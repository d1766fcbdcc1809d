"""What the page is made of: values as HTML, tables, parts to unfold. All that comes from a file passes `text`."""
from collections.abc import Callable
from html import escape

from vit.errors import printable

NONE = "-"


def text(value: object) -> str:
    """A value as HTML, on one line."""
    return escape(printable(value))


def number(value: object, form: Callable[[float], str]) -> str:
    """A number in a form, or a dash."""
    return NONE if value is None or isinstance(value, str) else form(value)


def share(value: object) -> str:
    """A share of 1, in per cent."""
    return number(value, "{:.2%}".format)


def count(value: object) -> str:
    """A count."""
    return number(value, "{:,.0f}".format)


def fixed(value: object) -> str:
    """A number such as a loss."""
    return number(value, "{:.4f}".format)


def duration(seconds: object) -> str:
    """A time in words."""
    def form(value: float) -> str:
        minutes, rest = divmod(round(value), 60)
        hours, minutes = divmod(minutes, 60)
        if hours:
            return f"{hours:,} h {minutes:02} min"
        return f"{minutes} min {rest:02} s" if minutes else f"{value:.1f} s"

    return number(seconds, form)


def table(heads: list[str], rows: list[list[str]], numbers: tuple[int, ...] = (), texts: tuple[int, ...] = ()) -> str:
    """A table that scrolls by itself where it is too wide.

    Args:
        heads: Of each column, HTML.
        rows: Cells, HTML; the first of a row names it.
        numbers: The columns that hold numbers.
        texts: Those that may be long.
    """
    def cell(tag: str, column: int, content: str, scope: str = "") -> str:
        kind = "number" if column in numbers else "text" if column in texts else ""
        return f'<{tag}{f" class={kind}" if kind else ""}{scope}>{content}</{tag}>'

    head = "".join(cell("th", column, content, " scope=col") for column, content in enumerate(heads))
    lines = ["".join(cell("td", column, content) if column else cell("th", column, content, " scope=row")
                     for column, content in enumerate(row)) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return (f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'
            "</div>")


def folded(summary: str, content: str) -> str:
    """A part to unfold; nothing where there is no content."""
    return f"<details><summary>{summary}</summary>\n{content}\n</details>" if content else ""
