"""Learners that take gradient steps on the support set."""
