"""The command line: `commands` parses and calls, `render` prints, `doctor` looks at the machine."""
