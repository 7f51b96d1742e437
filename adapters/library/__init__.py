"""The reference application's parts outside its actions: models, repo, checkpoint, storage, real input."""
