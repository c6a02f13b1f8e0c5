"""The frameworks that train: callbacks that watch a run, and a Trainer taken for the training that it makes."""
