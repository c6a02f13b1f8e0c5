"""A recorded run for people and programs: terminal, page, document."""
