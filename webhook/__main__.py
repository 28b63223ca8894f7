"""``python -m webhook``: the webhook's server."""

from webhook.server import main

main()
