"""The attacks that were tried: each against the real thing, through the path an attacker has."""
