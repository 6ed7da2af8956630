"""`dtvit-edge bench`: how fast, how much memory and energy, and how right a bundle is on this machine.

Every configuration (a backend, a precision, a hint) is judged before it is timed, on the opened backend that is timed
afterwards; one that fails has no latency. What was measured is records (`evaluation.records`), and the report is
written from nothing but those.

`measure` takes the times, `peers` holds what is timed beside a bundle, `results` the records, `report` what is made of
them; `standalone` are single questions with a command each.
"""
