"""Codecs for what goes over wires: bytes in, values out, no I/O."""
