"""What --app names in the tests of the command line."""

from tests.projections.notes.app import make_application

app = make_application()
