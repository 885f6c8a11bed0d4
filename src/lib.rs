//! dashgate: a transparent reverse proxy for DashScope.
