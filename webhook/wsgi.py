"""The WSGI application; ``webhook/server.py`` is the configuration with which gunicorn serves it."""

from webhook import create_app

app = create_app()
