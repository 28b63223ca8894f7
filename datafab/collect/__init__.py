"""Collect the endpoints of a collection into logs and resources, as digital-land's collector does."""
