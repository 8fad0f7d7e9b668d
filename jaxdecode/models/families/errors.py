"""The error of a checkpoint that cannot become a model."""


class CheckpointError(ValueError):
    """A checkpoint that is broken, incomplete, or of a kind that is not supported."""
