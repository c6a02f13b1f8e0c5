"""What the loss does with the model's outputs: how low it could go, and whose targets it compares them with."""
