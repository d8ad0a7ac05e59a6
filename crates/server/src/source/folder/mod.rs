//! A watched directory tree.
