//! What `deploy/` ships is true: of the reader of configurations, of Prometheus, and of Kubernetes.

mod kubernetes;
mod places;
mod prometheus;
mod schema;
mod systemd;
mod tools;
