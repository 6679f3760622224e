"""The timed bodies, one module a family; each runs in a process of its own per loop.

A workload is a function ``(kind, **parameters) -> dict of figures``. It makes its loop, times only
what its docstring says, closes the loop and returns. Figures of the same name compare.
"""
