"""Floor 1: what everything stands on; knows nothing of models or decoding."""
