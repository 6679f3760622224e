"""Shared machinery of the behaviour tests; no test lives here."""
