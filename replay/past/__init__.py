"""History as a replay needs it: its actions, what they made of rows, who overlapped whom. Runs nothing."""
