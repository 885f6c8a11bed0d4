//! Stage 1: what is called, and under which mount.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::{Method, Version};
use percent_encoding::percent_decode_str;

use super::authenticate::presented;
use super::peer::{ConnectionState, REFUSED_METHOD};
use super::rejection::Rejection;
use crate::config::{Dialect, Mount, StorageHost};
use crate::dashscope::operation::{self, Operation, Surface};
use crate::dashscope::path;
use crate::tenant::directory::Directory;
use crate::unified::{self, StatusSpelling};

/// Where a request leads.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// The prefix of the mount.
    pub mount: Arc<str>,
    pub operation: Operation,
    pub surface: Surface,
    /// How long a query of a running task waits for its end.
    pub hold: Duration,
    /// The path on the upstream, below its base URL.
    pub path: Box<str>,
    /// Where the id stands in `path`.
    task_id: Option<std::ops::Range<usize>>,
    /// Where the mount speaks another dialect.
    pub unified: Option<Unified>,
}

/// How a unified mount speaks, and with whom.
#[derive(Debug, Clone)]
pub(super) struct Unified {
    pub statuses: StatusSpelling,
    pub storage: Arc<[StorageHost]>,
}

impl Route {
    pub(super) fn task_id(&self) -> Option<&str> {
        self.task_id.clone().and_then(|range| self.path.get(range))
    }

    /// The same call as a native one: what a unified one becomes on its way to the upstream.
    pub(super) fn natively(&self, operation: Operation, path: impl Into<Box<str>>) -> Self {
        Self { operation, path: path.into(), task_id: None, ..self.clone() }
    }
}

/// Finds mount and operation.
///
/// # Errors
/// `BadHead`, `BadRequest`, `BadPath` or `NoMount`: what has no one reading, or no place here.
pub(super) fn route(
    directory: &Directory,
    request: &Parts,
    line: &ConnectionState,
) -> Result<Route, Rejection> {
    if let Some(fault) = line.head_fault().filter(|_| request.method.as_str() == REFUSED_METHOD) {
        return Err(Rejection::BadHead(fault));
    }
    check_target(request)?;
    check_secret(request)?;
    let path = path::normalise(request.uri.path()).map_err(Rejection::BadPath)?;
    let Some((mount, rest)) = find_mount(&directory.mounts, &path) else {
        return Err(Rejection::NoMount(no_mount(&path, &directory.mounts)));
    };
    if mount.dialect == Dialect::Unified {
        return Ok(in_unified(mount, &request.method, rest, &path));
    }
    let call = operation::classify(&request.method, rest, request.uri.query());
    if call.operation == Operation::Unlisted {
        let surface = call.surface;
        return Ok(unlisted(mount, surface, path));
    }
    let upstream = [call.root, call.rest].concat();
    let task_id = call.task_id.and_then(|id| {
        let start = call.root.len() + TASKS.len();
        call.rest.starts_with(TASKS).then(|| start..start + id.len())
    });
    Ok(Route {
        mount: Arc::clone(&mount.prefix),
        operation: call.operation,
        surface: call.surface,
        hold: mount.hold,
        path: upstream.into(),
        task_id,
        unified: None,
    })
}

/// The mount, an index into the directory's, and the shape of errors that the caller reads, as far as the beginning
/// of a path shows them: a path that is refused gets its refusal in that shape too.
pub(super) fn foresee(directory: &Directory, raw_path: &str) -> (Option<usize>, Surface) {
    let Some((mount, rest)) = find_mount(&directory.mounts, raw_path) else { return (None, Surface::Native) };
    let surface = match mount.dialect {
        Dialect::Unified => Surface::Compatible,
        Dialect::Native => operation::surface(rest),
    };
    (directory.mount(&mount.prefix), surface)
}

fn unlisted(mount: &Mount, surface: Surface, path: Cow<'_, str>) -> Route {
    let (mount, hold) = (Arc::clone(&mount.prefix), mount.hold);
    Route {
        mount,
        operation: Operation::Unlisted,
        surface,
        hold,
        path: path.into(),
        task_id: None,
        unified: None,
    }
}

fn in_unified(mount: &Mount, method: &Method, rest: &str, path: &str) -> Route {
    let call = unified::call::classify(method, rest);
    // Both are pieces of the path.
    let task_id = call.id.map(|id| {
        let start = id.as_ptr().addr() - path.as_ptr().addr();
        start..start + id.len()
    });
    Route {
        mount: Arc::clone(&mount.prefix),
        operation: call.operation,
        surface: Surface::Compatible,
        hold: mount.hold,
        path: path.into(),
        task_id,
        unified: Some(Unified { statuses: mount.video_statuses, storage: Arc::clone(&mount.storage_hosts) }),
    }
}

/// A request with two hosts, or one for another server, could be read differently behind us
/// (RFC 9112, 3.2 and 3.2.2).
fn check_target(request: &Parts) -> Result<(), Rejection> {
    if request.method == Method::TRACE || request.method == Method::CONNECT {
        return Err(Rejection::BadRequest("the methods TRACE and CONNECT are not served"));
    }
    let mut hosts = request.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Rejection::BadRequest("it has two Host fields"));
    }
    if request.version == Version::HTTP_2 {
        let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
        return match (authority, host) {
            (None, None) => Err(Rejection::BadRequest("it names no host")),
            (Some(authority), Some(host)) if authority != host.as_bytes() => {
                Err(Rejection::BadRequest("its :authority and its Host field differ"))
            }
            _ => Ok(()),
        };
    }
    if request.uri.scheme().is_some() || request.uri.authority().is_some() {
        return Err(Rejection::BadRequest("its target is not a path; this is no forward proxy"));
    }
    if host.is_none() && request.version == Version::HTTP_11 {
        return Err(Rejection::BadRequest("it has no Host field"));
    }
    Ok(())
}

/// A key in the target would go up with it, and come back in a refusal that names the path.
fn check_secret(request: &Parts) -> Result<(), Rejection> {
    let Some(key) = presented(&request.headers)? else { return Ok(()) };
    let target = request.uri.path_and_query().map_or("", |target| target.as_str());
    let is_coded = target.contains('%');
    let plain = is_coded.then(|| percent_decode_str(target).collect::<Vec<u8>>());
    if key.stands_in(target.as_bytes()) || plain.is_some_and(|plain| key.stands_in(&plain)) {
        return Err(Rejection::BadRequest("its target holds the API key, which belongs into Authorization"));
    }
    Ok(())
}

/// The mount with the longest prefix that ends where a segment of the path does, and what follows it.
fn find_mount<'m, 'p>(mounts: &'m [Mount], path: &'p str) -> Option<(&'m Mount, &'p str)> {
    mounts.iter().find_map(|mount| {
        let rest = if &*mount.prefix == "/" { path } else { path.strip_prefix(&*mount.prefix)? };
        (rest.is_empty() || rest.starts_with('/')).then_some((mount, rest))
    })
}

fn no_mount(path: &str, mounts: &[Mount]) -> Box<str> {
    let shown: String = path.chars().take(MOST_SHOWN).collect();
    let prefixes: Vec<&str> = mounts.iter().map(|mount| &*mount.prefix).collect();
    format!("No mount takes the path {shown}; there are: {}.", prefixes.join(", ")).into()
}

const TASKS: &str = "/tasks/";
/// Of a path in a message, in characters.
pub(super) const MOST_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(prefixes: &[&str]) -> Vec<Mount> {
        let mount = |prefix: &&str| Mount {
            prefix: (*prefix).into(),
            dialect: Dialect::Native,
            video_statuses: StatusSpelling::Openai,
            hold: Duration::ZERO,
            storage_hosts: Arc::default(),
        };
        prefixes.iter().map(mount).collect()
    }

    #[test]
    fn the_longest_prefix_wins_and_ends_with_a_segment() {
        let mounts = mounts(&["/wan/eu", "/wan", "/"]);
        for (path, prefix, rest) in [
            ("/wan/eu/api/v1/tasks", "/wan/eu", "/api/v1/tasks"),
            ("/wan/eux/api/v1/tasks", "/wan", "/eux/api/v1/tasks"),
            ("/wan", "/wan", ""),
            ("/wanx/api/v1/tasks", "/", "/wanx/api/v1/tasks"),
        ] {
            let (mount, found) = find_mount(&mounts, path).expect("a mount");
            assert_eq!((&*mount.prefix, found), (prefix, rest), "{path}");
        }
    }

    #[test]
    fn without_a_root_mount_some_paths_have_none() {
        assert!(find_mount(&mounts(&["/wan"]), "/api/v1/tasks").is_none());
    }
}
