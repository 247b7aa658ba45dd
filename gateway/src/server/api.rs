//! The server API.
