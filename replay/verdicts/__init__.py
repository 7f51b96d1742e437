"""Verdicts: what an action that ran again left and said otherwise than history has it, and what explains that."""
