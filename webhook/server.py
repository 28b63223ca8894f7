"""The configuration of gunicorn: ``gunicorn --config python:webhook.server``, with any option of gunicorn after it.

Names here are those of gunicorn's settings.
"""

from __future__ import annotations

from datafab.settings import load

wsgi_app = "webhook.wsgi:app"
bind = load().bind
worker_class = "webhook.worker.Worker"
workers = 2
threads = 4
#: Below the usual limit of 1,024 open files; connections beyond this close the one that has waited longest.
worker_connections = 500
keepalive = 5
graceful_timeout = 5
control_socket_disable = True
#: The parser that the tests know, whatever else is installed.
http_parser = "python"
#: ``X_Y`` would reach the application under the name of ``X-Y``.
header_map = "refuse"
#: No client may say which part of the path is the application's.
forwarder_headers = ""
#: The path without its query, which may hold what is searched for.
access_log_format = '%(h)s %(t)s "%(m)s %(U)s" %(s)s %(b)s %(M)sms'
