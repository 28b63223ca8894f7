"""Whether other hosts than this one can connect to the webhook."""

from __future__ import annotations

from datafab.embedded.address import Address
from datafab.errors import FlowError
from datafab.settings import Settings


def is_exposed(settings: Settings) -> bool:
    """Return whether DATAFAB_BIND is an address that other hosts can connect to.

    Raises:
        SettingError: DATAFAB_BIND is not an address.
    """
    return not Address.of(settings.bind, "DATAFAB_BIND").loopback


def require_listed_ckans(settings: Settings) -> None:
    """Raise unless pushes are safe to accept: where other hosts can submit them, DATAFAB_CKAN_URLS must be set.

    A push makes this host send requests to the CKAN that its submitter names, which may be a private address.

    Raises:
        FlowError: ``ckan_not_allowed``.
    """
    if is_exposed(settings) and not settings.ckan_urls:
        where = f"other hosts can connect to this webhook (DATAFAB_BIND={settings.bind})"
        msg = f"pushes are refused: {where}, so DATAFAB_CKAN_URLS must list the CKANs that may be pushed to"
        raise FlowError(msg, code="ckan_not_allowed", field="DATAFAB_CKAN_URLS")
