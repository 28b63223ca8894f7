"""One module per outside system. Each answers ``ping()`` and translates failures into ``datafab.errors``."""
