"""Builds HTML and escapes all text that is not markup."""

from __future__ import annotations

import html

from compile_checks.outputs.text import printable


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Markup:
    """Returns an element. A trailing `_` in an attribute's name is removed, as in `class_`.

    >>> tag("a", "x < y", tag("b", "&"), href='"', class_="link")
    '<a href="&quot;" class="link">x &lt; y<b>&amp;</b></a>'
    """
    listed = "".join(
        f' {key.rstrip("_")}="{html.escape(printable(value))}"' for key, value in attributes.items()
    )
    return Markup(f"<{name}{listed}>{join(*children)}</{name}>")


def join(*children: str) -> Markup:
    """Concatenates children."""
    return Markup("".join(map(_escaped, children)))


def folded(summary: str, *children: str) -> Markup:
    """Returns an element that shows its children when clicked."""
    return tag("details", tag("summary", summary), *children)


def _escaped(child: str) -> str:
    return child if isinstance(child, Markup) else html.escape(printable(child))
