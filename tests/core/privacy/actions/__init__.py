"""The clinic's actions."""
