"""Learners whose adapter is a memory: the support set is written down in one pass, without a gradient."""
