"""Ears and voices: recognition, synthesis and prompts."""
