"""Weights of other projects: their files, their names, their configs. dfm/convert.py is the way in."""
