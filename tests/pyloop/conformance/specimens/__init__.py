"""Made-up test modules on which `test_runner.py` checks the runner itself."""
