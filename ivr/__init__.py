"""The machine side of the hotline: a customer and a flow, on any channel."""
