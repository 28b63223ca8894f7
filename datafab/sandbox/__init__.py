"""Small, faithful stand-ins of outside systems, for the demo and the tests."""
