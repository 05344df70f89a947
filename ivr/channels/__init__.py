"""Ways to reach a customer other than a call."""
