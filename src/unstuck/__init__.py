"""Why has the loss stopped going down? See README.md."""
