//! ocs
