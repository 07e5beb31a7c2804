"""Recipes that ship with Herd: ``herd run pocket`` finds them here."""
