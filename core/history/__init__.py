"""The row history: images that triggers write of every changed row, and what is told from them."""
