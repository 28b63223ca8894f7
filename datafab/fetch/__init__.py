"""Fetch files over HTTP: sessions, connections, name resolution, certificates, and what a fetch refuses."""
