"""The human side of the hotline: an agent and a conversation."""
