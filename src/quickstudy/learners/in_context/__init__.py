"""Learners that read the support set as a sequence or a set of tokens and answer; nothing is updated."""
