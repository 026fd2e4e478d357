"""Fixtures are plugins, one file for each thing they bring up."""

pytest_plugins = ["tests.integration.fix_servers", "tests.faults.fix_daemon"]
