"""What every room stands on: errors, strict configuration, files, progress and seeds.

Nothing here knows about models, text or recipes, and nothing here imports another room.
"""
