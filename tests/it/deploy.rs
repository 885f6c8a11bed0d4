//! Files in `deploy/` fit the configuration reader, Prometheus and Kubernetes, and what the guide says of backups is so.

mod backup;
mod compose;
mod images;
mod ingress;
mod kubernetes;
mod logrotate;
mod nginx;
mod processes;
mod prometheus;
mod replicas;
mod schema;
pub(crate) mod schema_places;
mod systemd;
pub(crate) mod tools;
