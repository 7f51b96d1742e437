"""An action that would take an operator's decision."""
