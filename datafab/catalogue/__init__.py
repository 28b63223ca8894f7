"""Follow a udata catalogue: find changed files, fetch them, and report on them as data.gouv.fr's hydra does."""
