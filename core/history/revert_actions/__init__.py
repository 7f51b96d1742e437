"""The action that puts back what another one changed, on record as any other; run by `ActionRunner.revert`."""
