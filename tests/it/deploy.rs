//! What `deploy/` ships is true: of the reader of configurations, of Prometheus, and of Kubernetes.

mod kubernetes;
pub(crate) mod places;
mod prometheus;
mod schema;
mod systemd;
pub(crate) mod tools;
