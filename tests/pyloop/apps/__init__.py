"""What the tests of real programs share: served processes, and the lines that the docs promise."""
