"""The journal as people look through it: page by page, at bounded cost. Used by HTTP and the command line."""
