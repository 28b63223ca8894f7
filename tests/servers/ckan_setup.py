"""Makes an empty CKAN ready: databases, tables, rights, an administrator. Run by CKAN's own Python, not by ours.

``python ckan_setup.py INI SUPERUSER_URL`` prints the administrator's token.
"""

import sys

import psycopg2
from ckan import logic, model
from ckan.cli import load_config
from ckan.config.middleware import make_app
from ckanext.datastore.cli import permissions_sql

ROLES = ("ckan", "reader")
DATABASES = ("ckan", "datastore")


def run(url: str, *statements: str) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def main(ini: str, superuser: str) -> None:
    run(
        superuser + "postgres",
        *(f"create role {role} login password '{role}'" for role in ROLES),
        *(f"create database {name} owner ckan" for name in DATABASES),
    )
    app = make_app(load_config(ini))
    with app._wsgi_app.app_context():
        model.repo.init_db()
        rights = permissions_sql("ckan", "datastore", "ckan", "ckan", "reader")
        # The first line is psql's own: it connects to the database that we are connected to.
        run(superuser + "datastore", "\n".join(line for line in rights.splitlines() if not line.startswith("\\")))
        user = {"name": "admin", "email": "admin@example.org", "password": "none-ever-logs-in", "id": "admin"}
        made = logic.get_action("user_create")({"ignore_auth": True, "user": ""}, user)
        admin = model.User.get(made["id"])
        admin.sysadmin = True
        model.repo.commit()
        context = {"ignore_auth": True, "user": "admin"}
        token = logic.get_action("api_token_create")(context, {"user": "admin", "name": "tests"})["token"]
    sys.stdout.write(f"token={token.decode() if isinstance(token, bytes) else token}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
