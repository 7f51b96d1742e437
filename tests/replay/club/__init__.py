"""Actions upon rows that can be erased, without personal arguments of their own."""
