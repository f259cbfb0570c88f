"""Train a network on a task: the loop, its settings, its checkpoints and its run folder."""
