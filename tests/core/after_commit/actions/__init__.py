"""An action with a name that is taken."""
