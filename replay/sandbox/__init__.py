"""The sandbox: a private database in which the present code runs again, with no way out of it."""
