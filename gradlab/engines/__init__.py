"""The training engines: PyTorch, TensorFlow, and many runs at once; accumulation and resuming."""
