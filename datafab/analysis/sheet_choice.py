"""Read which sheet of a workbook a job asks for. Pure, and without the libraries that read workbooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datafab.errors import FlowError

#: Maximum characters of a sheet's name: Excel allows 31, others more.
MAX_SHEET_NAME_CHARS = 255
#: Help of the commands' option ``--sheet``.
SHEET_HELP = "Sheet of a workbook, by its name or its number from 1; default: the largest visible one."


def requested_sheet(params: Mapping[str, Any]) -> str | None:
    """Return the sheet that the parameters of a job name, at the top level or in ``metadata``; None if they do not.

    Raises:
        FlowError: it is neither a name nor a number.
    """
    metadata = params.get("metadata")
    given = params.get("sheet") or (metadata.get("sheet") if isinstance(metadata, Mapping) else None)
    if given is None or given == "":
        return None
    if isinstance(given, bool) or not isinstance(given, int | str) or len(str(given)) > MAX_SHEET_NAME_CHARS:
        msg = f"sheet must be the name of a sheet, or its number from 1, not {str(given)[:MAX_SHEET_NAME_CHARS]!r}"
        raise FlowError(msg, code="bad_request", field="sheet")
    return str(given)
