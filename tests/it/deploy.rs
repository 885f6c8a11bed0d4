//! Files in `deploy/` fit the configuration reader, Prometheus and Kubernetes.

mod kubernetes;
pub(crate) mod places;
mod prometheus;
mod schema;
mod systemd;
pub(crate) mod tools;
