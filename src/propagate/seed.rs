//! From what a user points at to labels of patches.
