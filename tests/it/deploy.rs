//! Files in `deploy/` fit the configuration reader, Prometheus and Kubernetes.

mod compose;
mod kubernetes;
mod prometheus;
mod replicas;
mod schema;
pub(crate) mod schema_places;
mod systemd;
pub(crate) mod tools;
