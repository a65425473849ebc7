"""Small helpers without knowledge of images or runs; import the file.

Read first: `files.py`.
"""
