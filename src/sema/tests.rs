//! Snippets that elaborate, and what is said of those that do not.
