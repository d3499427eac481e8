"""What is listened to: each module installs itself around some of torch's functions.

A sensor is a function `install(patches, recorders)`: it patches by `patches`, and tells each of `recorders` what
happens. It must not raise within the script, and costs a few microseconds a step at most.
"""
