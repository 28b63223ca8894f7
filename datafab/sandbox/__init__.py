"""Small, faithful replacements of other systems, for the demo and the tests."""
