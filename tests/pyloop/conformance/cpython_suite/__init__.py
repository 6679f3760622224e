"""CPython's own asyncio tests, run with PyLoop in place of the selector event loop.

Rooms: `catalogue` knows which test modules this interpreter ships, `substitution` puts a loop
class in their place and counts loops by type, `exclusions` and `environment` are the two lists of
what is not held against PyLoop, `worker` runs one module in its own process, `driver` starts
workers and survives their crashes and hangs, `record` keeps the numbers that may not fall,
`report` prints and gives the verdict.
"""
