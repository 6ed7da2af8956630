"""The command line.

`commands` parses and calls, on the `group` that mounts workstation commands; `render` prints results through
`terminal`, in `units` for people; `exit_status` says how a command ended, `internal_error` what to report; `doctor`
looks at the machine.
"""
