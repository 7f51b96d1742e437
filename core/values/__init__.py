"""Values: immutable things and their JSON forms. Imports nothing else of ours."""
