"""What can be changed to get a run moving again: each remedy a change of a copy of the run."""
