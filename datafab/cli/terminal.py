"""A terminal for texts of others: they cannot move its cursor, name its window or fill its clipboard."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

#: What a terminal may take for an order, in ASCII and Latin-1; line ends and tabs are no orders.
_ORDERS = dict.fromkeys((*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)))


class Terminal(Console):
    """Rich's console, which gives orders of its own only: no cell, title or message does."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is to be printed; all that is passes here."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else segment.text.translate(_ORDERS)
            yield segment if text == segment.text else Segment(text, segment.style)
