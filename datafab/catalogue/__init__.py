"""Follow a udata catalogue: find what changed, fetch it, and answer as the data manufactory of data.gouv.fr does."""
