"""The shop as `--app` finds it."""

from tests.shop.app import make_application

app = make_application()
