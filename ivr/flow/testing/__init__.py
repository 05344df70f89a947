"""Dialogue tests: a customer who follows a script against a flow, with no PBX and no waiting."""
