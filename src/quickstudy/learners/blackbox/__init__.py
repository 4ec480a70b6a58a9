"""Learners whose whole adaptation is what a trained network computes from the support set."""
