"""Learners whose head is the exact solution of a convex problem on the features."""
