"""The example application: a small shop."""
