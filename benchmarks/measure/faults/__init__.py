"""Everyday faults done to phantom studies, and what becomes of the studies: does any 0 come out that was not earned?

`studies` holds a scan in memory and what of it is delivered; `file_faults`, `tag_faults`, `geometry_faults` and
`pixel_faults` damage a delivery; `shrugs` do to it what a radiographer would not mind; `running` scores it and
`judging` says what the result is worth. The judge follows the contract and not the code that it judges.
"""
