"""cli: one file a command, one line each in `main.COMMANDS`."""
