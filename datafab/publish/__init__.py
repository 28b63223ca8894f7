"""Announce files and metadata records over WIS2."""
