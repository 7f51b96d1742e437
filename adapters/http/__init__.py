"""HTTP without a framework: what a request asks, what it is answered. Used by `adapters.flask`, and by others like it.

A framework's adapter makes a `Request` of its own kind of request, asks `Api`, and makes its own kind of response out
of the `Answer`. Nothing here imports a framework.
"""
