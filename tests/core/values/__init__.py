"""Tests of values and their JSON forms."""
