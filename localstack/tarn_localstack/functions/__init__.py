"""Lambda functions as processes: the Runtime API that a `bootstrap` talks to, and the process itself. Knows no emulator."""
