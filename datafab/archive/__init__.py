"""Deliver archives to a Géoplateforme entrepôt: upload, check, execute, describe, tidy up."""
