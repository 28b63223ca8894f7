"""The errors, whose class decides what happens to the item or job.

The code that raises an error chooses its class; one place, the runner, acts on it::

    DatafabError
    ├── Wait         not ready yet: retried after a delay; not a failure, and resets the count of failures
    ├── Retriable    failed, may succeed later: retried until too many failures in a row fail the item
    ├── Skippable    skips the item on purpose
    ├── Fatal        fails the item, because retries cannot help
    │   └── Unsuitable     the content is not suitable for the stage: a PDF, or a damaged table
    ├── FlowError    fails the whole job: invalid parameters, a service that is not configured
    │   ├── SettingError   a setting is invalid
    │   └── NotFound       a job, flow or file does not exist
    ├── Parked       the worker died too often: an operator decides
    └── Lost         the attempt no longer counts: the job was cancelled or is past its deadline, or another
                     attempt holds the row
"""

from __future__ import annotations

from datafab.urls import hide_secrets


class DatafabError(Exception):
    """An error of datafab.

    Attributes:
        code: short machine-readable kind, e.g. ``http_404``; by default the class name in lower case.
        field: the column, parameter, URL or setting that caused the error, if any.
        position: position of the invalid character in the value of ``field``, from 0, if known.
    """

    position: int | None = None

    def __init__(self, message: str = "", *, code: str | None = None, field: str | None = None) -> None:
        # Whatever quotes a URL, its secrets are shown nowhere.
        super().__init__(hide_secrets(message) or (type(self).__doc__ or "").partition("\n")[0])
        self.code = code or type(self).__name__.lower()
        self.field = field and hide_secrets(field)

    @property
    def message(self) -> str:
        """The message for people."""
        return str(self.args[0])


class _Delayed(DatafabError):
    """An error after which the item is tried again."""

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


class Wait(_Delayed):
    """The item is not ready yet.

    It is tried again after ``delay`` seconds (default 5). This does not count as a failure.

    Attributes:
        looked: whether the other system has answered, so that earlier failures no longer count. False if it was not
            queried, as when waiting for a rate limit or a lock, or if the failure is counted elsewhere.
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


class Retriable(_Delayed):
    """The item failed, but may succeed later.

    It is tried again after ``delay`` seconds; None: by the default backoff.

    Attributes:
        retries: number of failures in a row after which the item fails, instead of the stage's number.
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
    """The item is skipped on purpose."""


class Fatal(DatafabError):
    """The item failed, and retries cannot help."""


class Unsuitable(Fatal):
    """The content is not suitable for the stage.

    It fails the item in a stage that the job has requested. In a ``then`` stage the item keeps its status, and the
    refusal is counted for the stage.

    Attributes:
        another_kind: whether the content is intact but of another kind, such as a PDF instead of a table. Otherwise it
            is damaged, and the error is listed with the job's failures.
    """

    def __init__(
        self, message: str = "", *, another_kind: bool = False, code: str | None = None, field: str | None = None
    ) -> None:
        super().__init__(message, code=code, field=field)
        self.another_kind = another_kind


class FlowError(DatafabError):
    """The whole job cannot run."""


class SettingError(FlowError):
    """A setting is invalid."""


class NotFound(FlowError):
    """A job, flow or file does not exist."""


class Parked(DatafabError):
    """The worker died too often; an operator has to decide."""


class Lost(DatafabError):
    """The attempt no longer counts."""
