"""Actions with secrets."""
