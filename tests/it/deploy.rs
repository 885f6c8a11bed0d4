//! What `deploy/` ships is true: of the configuration's reader, of Prometheus, and of Kubernetes.

mod schema;
