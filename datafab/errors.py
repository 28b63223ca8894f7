"""What can go wrong, and what the queue does about it.

The raiser chooses the family, one place (the runner) acts on it::

    DatafabError
    ├── Wait         not ready yet: no failure, costs nothing, looked at again after a delay; ends a row of failures
    ├── Retriable    failed, may work later: too many of these in a row, and the item fails
    ├── Skippable    this item, on purpose
    ├── Fatal        this item will never work
    │   └── Unsuitable     its content is not what this stage works on: a PDF, or a damaged table
    ├── FlowError    the whole job: bad parameters, a service that is not configured
    │   ├── SettingError   a setting that cannot be used, by name
    │   └── NotFound       a job, flow or file that does not exist
    ├── Parked       its worker died too often: an operator decides
    └── Lost         this attempt no longer counts: cancelled, past its deadline, or another holds the row
"""

from __future__ import annotations


class DatafabError(Exception):
    """Something went wrong in datafab.

    Attributes:
        code: short machine-readable kind, e.g. ``http_404``; the class name in lower case unless given.
        field: the column, parameter, URL or setting that it is about, if one is.
        position: the character of that, from 0, where something is wrong, if it is a text with an inner order.
    """

    position: int | None = None

    def __init__(self, message: str = "", *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])
        self.code = code or type(self).__name__.lower()
        self.field = field

    @property
    def message(self) -> str:
        """The text for people."""
        return str(self.args[0])


class _Later(DatafabError):
    """Something to be looked at again."""

    default_delay: float | None = None

    def __init__(
        self,
        message: str = "",
        *,
        delay: float | None = None,
        code: str | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(message, code=code, field=field)
        self.delay = self.default_delay if delay is None else delay


class Wait(_Later):
    """Not ready yet; look again after ``delay`` seconds (default 5). No failure, no cost.

    Attributes:
        looked: whether what is waited for has answered, so that failures before this no longer count. False where
            nothing was asked, as for a turn or a gate, or where this stands for a failure that is counted elsewhere.
    """

    default_delay = 5.0
    delay: float

    def __init__(
        self,
        message: str = "",
        *,
        delay: float | None = None,
        looked: bool = True,
        code: str | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(message, delay=delay, code=code, field=field)
        self.looked = looked


class Retriable(_Later):
    """Failed now, may work later; ``delay`` in seconds, or None for the usual backoff.

    Attributes:
        retries: instead of those of the stage's ``RetryPolicy``.
    """

    def __init__(
        self,
        message: str = "",
        *,
        delay: float | None = None,
        retries: int | None = None,
        code: str | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(message, delay=delay, code=code, field=field)
        self.retries = retries


class Skippable(DatafabError):
    """This item is left out on purpose."""


class Fatal(DatafabError):
    """This item will never work."""


class Unsuitable(Fatal):
    """The content is not what this stage works on.

    It fails an item whose job asked for this stage. Where the stage only follows what was asked for, the item keeps
    its status, and the refusal is counted for the stage.

    Attributes:
        another_kind: the content is no fault: it is of another kind, such as a PDF where a table is needed. Otherwise
            it is damaged, and the reason is listed with the job's failures.
    """

    def __init__(
        self, message: str = "", *, another_kind: bool = False, code: str | None = None, field: str | None = None
    ) -> None:
        super().__init__(message, code=code, field=field)
        self.another_kind = another_kind


class FlowError(DatafabError):
    """The whole job cannot run."""


class SettingError(FlowError):
    """A setting cannot be used."""


class NotFound(FlowError):
    """There is no such thing."""


class Parked(DatafabError):
    """The worker died too often on this; it waits for an operator."""


class Lost(DatafabError):
    """This attempt no longer counts."""
