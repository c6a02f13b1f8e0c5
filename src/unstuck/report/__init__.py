"""A verdict for people and programs: terminal, HTML page, JSON, figures."""
