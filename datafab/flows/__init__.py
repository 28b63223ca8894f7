"""Flows as data: those of the chains, and those that an installation writes into its datafab.toml."""
