"""The flow language and its engine: pure functions and values, no I/O, no clock."""
