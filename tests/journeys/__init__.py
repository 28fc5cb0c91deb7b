"""Journeys: roads through the program as its users walk them, by the command line, on files that it made itself.

Nothing is imported from landslip here. What a journey looks at, it opens with other programs.
"""
