//! The axum routers that search.
