//! sagex3
