"""The gateway: one action on its way from the call to its outcome."""
