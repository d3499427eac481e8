"""What trains: the loop in torch, the same in TensorFlow, and many runs at once; and how a training resumes."""
