"""Secrecy: keeps secret values out of the journal, errors and logs."""
