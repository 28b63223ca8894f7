"""A terminal that is safe for foreign texts: they cannot move its cursor, rename its window or fill its clipboard."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

#: Control characters of ASCII and Latin-1, which a terminal may execute, without line ends and tabs.
_CONTROLS = dict.fromkeys((*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)))


class Terminal(Console):
    """A console of Rich that removes control characters from texts, and only writes control sequences of its own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments to print; everything that is printed passes through this method."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else segment.text.translate(_CONTROLS)
            yield segment if text == segment.text else Segment(text, segment.style)
