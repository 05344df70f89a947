"""Telephones: Asterisk by AGI, AudioSocket and AMI, and a SIP phone of our own."""
