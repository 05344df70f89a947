"""Fakes behind the ports, one file an area; the contract suites run on them too."""
