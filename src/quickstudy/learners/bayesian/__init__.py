"""Learners whose adapter is a posterior: one pass over the support, and answers that know how far they may be wrong."""
