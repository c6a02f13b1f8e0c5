"""What can be changed so that the loss goes down again."""
