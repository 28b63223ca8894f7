"""The WSGI application; ``webhook/server.py`` serves it."""

from webhook import create_app

app = create_app()
