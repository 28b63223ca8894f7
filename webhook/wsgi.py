"""Entry point of WSGI servers: ``gunicorn webhook.wsgi:app``."""

from webhook import create_app

app = create_app()
