"""Learners made for texts."""
