//! Routing: the mount that takes a request, and the operation that it calls.

use std::ops::Range;

use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::{Method, Version};
use percent_encoding::percent_decode_str;

use super::peer::{ConnectionState, REFUSED_METHOD};
use super::presented_key::PresentedKey;
use super::rejection::Rejection;
use crate::config::{Dialect, Mount};
use crate::dashscope::nearest::{self, NearestCall};
use crate::dashscope::operation::{self, Group, Operation, Surface};
use crate::dashscope::path;
use crate::net::site;
use crate::tenant::directory::Directory;
use crate::unified;

/// The call that a request makes, and the mount that takes it.
#[derive(Debug)]
pub(super) struct Route {
    /// Index into the directory's mounts.
    pub mount: usize,
    pub operation: Operation,
    pub surface: Surface,
    /// The path on the upstream, below its base URL.
    pub path: Box<str>,
    /// Position of the task's id in `path`.
    task_id: Option<Range<usize>>,
    /// Position of the client's key in the head.
    pub key: Option<PresentedKey>,
}

/// Mount and surface of a request without a route, as far as the beginning of its raw path shows them: its refusal gets
/// the shape that the client reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unrouted {
    pub mount: Option<usize>,
    pub surface: Surface,
}

impl Route {
    /// The mount in the directory by which the request was routed.
    pub(super) fn mount<'d>(&self, directory: &'d Directory) -> &'d Mount {
        &directory.mounts[self.mount]
    }

    pub(super) fn task_id(&self) -> Option<&str> {
        self.task_id.clone().and_then(|range| self.path.get(range))
    }

    /// The call that was most likely meant by one that is not listed, with the prefix of a native mount.
    pub(super) fn nearest(&self, request: &Parts, directory: &Directory) -> Option<String> {
        let own = self.mount(directory);
        let rest = if &*own.prefix == "/" { &*self.path } else { self.path.strip_prefix(&*own.prefix)? };
        let NearestCall { method, path, operation } =
            nearest::nearest(&request.method, rest, request.uri.query())?;
        let reaches = |(index, mount): (usize, &Mount)| {
            let whole = [mount.prefix.trim_end_matches('/'), &path].concat();
            let is_it = |(found, _)| found == index;
            let is_native = matches!(mount.dialect, Dialect::Native);
            (is_native && find_mount(&directory.mounts, &whole).is_some_and(is_it)).then_some(whole)
        };
        let mut whole = match own.dialect {
            Dialect::Native => reaches((self.mount, own)),
            // The dialect has calls of its own for tasks.
            Dialect::Unified if operation.group() == Some(Group::Tasks) => None,
            Dialect::Unified => directory.mounts.iter().enumerate().rev().find_map(reaches),
        }?;
        let shown = whole.char_indices().nth(MOST_SHOWN).map_or(whole.len(), |(at, _)| at);
        whole.truncate(shown);
        Some(format!("{method} {whole}"))
    }

    /// The native call that a unified one becomes on its way to the upstream.
    pub(super) fn natively(&self, operation: Operation, path: impl Into<Box<str>>) -> Self {
        Self {
            operation,
            path: path.into(),
            task_id: None,
            mount: self.mount,
            surface: self.surface,
            key: self.key,
        }
    }
}

/// Finds mount and operation.
///
/// # Errors
/// `BadHead`, `BadRequest`, `BadPath` or `NoMount`, if the request could be read in two ways or has no mount.
pub(super) fn route(
    directory: &Directory,
    request: &Parts,
    connection: &ConnectionState,
) -> Result<Route, Rejection> {
    if let Some(fault) = connection.head_fault().filter(|_| request.method.as_str() == REFUSED_METHOD) {
        return Err(Rejection::BadHead(fault));
    }
    check_target(request)?;
    let key = PresentedKey::find(&request.headers)?;
    check_secret(request, key)?;
    let path = path::normalise(request.uri.path()).map_err(Rejection::BadPath)?;
    let Some((mount, rest)) = find_mount(&directory.mounts, &path) else {
        return Err(Rejection::NoMount(no_mount(&path, &directory.mounts)));
    };
    let (operation, surface, path, task_id) = match directory.mounts[mount].dialect {
        Dialect::Native => native_call(request, rest, &path),
        Dialect::Unified => unified_call(&request.method, rest, &path),
    };
    Ok(Route { mount, operation, surface, path, task_id, key })
}

/// Mount and surface for the refusal of a request that `route` refused.
pub(super) fn unrouted(directory: &Directory, raw_path: &str) -> Unrouted {
    let Some((mount, rest)) = find_mount(&directory.mounts, raw_path) else {
        return Unrouted { mount: None, surface: Surface::Native };
    };
    let surface = match directory.mounts[mount].dialect {
        Dialect::Unified => Surface::Compatible,
        Dialect::Native => operation::surface(rest),
    };
    Unrouted { mount: Some(mount), surface }
}

/// The call below a native mount. An unlisted call keeps the client's path, which its refusal names.
fn native_call(request: &Parts, rest: &str, path: &str) -> Call {
    let call = operation::classify(&request.method, rest, request.uri.query());
    if call.operation == Operation::Unlisted {
        return (Operation::Unlisted, call.surface, path.into(), None);
    }
    let task_id = call.task_id.and_then(|id| {
        let start = call.root.len() + TASKS.len();
        call.rest.starts_with(TASKS).then(|| start..start + id.len())
    });
    (call.operation, call.surface, [call.root, call.rest].concat().into(), task_id)
}

/// The call below a unified mount.
fn unified_call(method: &Method, rest: &str, path: &str) -> Call {
    let call = unified::call::classify(method, rest);
    // The id is a slice of `path`, so its address gives its position there.
    let task_id = call.id.map(|id| {
        let start = id.as_ptr().addr() - path.as_ptr().addr();
        start..start + id.len()
    });
    let path = match call.upstream {
        Some((root, below)) => [root, "/", below].concat().into(),
        None => path.into(),
    };
    (call.operation, Surface::Compatible, path, task_id)
}

/// Operation, surface, path on the upstream, and position of the task's id in it.
type Call = (Operation, Surface, Box<str>, Option<Range<usize>>);

/// A request with two hosts, or one for another server, could be understood differently by the upstream
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
    if host.is_some_and(|host| site::host(host.as_bytes()).is_none()) {
        return Err(Rejection::BadRequest("its Host field is not host or host:port"));
    }
    if request.version == Version::HTTP_2 {
        let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
        if authority.is_some_and(|authority| site::host(authority).is_none()) {
            return Err(Rejection::BadRequest("its :authority is not host or host:port"));
        }
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

/// Refuses a target that holds the key: the key would reach the upstream, and come back in refusals that name the path.
fn check_secret(request: &Parts, key: Option<PresentedKey>) -> Result<(), Rejection> {
    let Some(key) = key.and_then(|key| key.of(&request.headers)) else { return Ok(()) };
    let target = request.uri.path_and_query().map_or("", |target| target.as_str());
    let is_coded = target.contains('%');
    let plain = is_coded.then(|| percent_decode_str(target).collect::<Vec<u8>>());
    if key.stands_in(target.as_bytes()) || plain.is_some_and(|plain| key.stands_in(&plain)) {
        return Err(Rejection::BadRequest("its target holds the API key, which belongs into Authorization"));
    }
    Ok(())
}

/// Index of the mount with the longest prefix that ends where a segment of the path does, and the rest of the path.
fn find_mount<'p>(mounts: &[Mount], path: &'p str) -> Option<(usize, &'p str)> {
    mounts.iter().enumerate().find_map(|(index, mount)| {
        let rest = if &*mount.prefix == "/" { path } else { path.strip_prefix(&*mount.prefix)? };
        (rest.is_empty() || rest.starts_with('/')).then_some((index, rest))
    })
}

fn no_mount(path: &str, mounts: &[Mount]) -> Box<str> {
    let shown: String = path.chars().take(MOST_SHOWN).collect();
    let prefixes: Vec<&str> = mounts.iter().map(|mount| &*mount.prefix).collect();
    format!("No mount takes the path {shown}; there are: {}.", prefixes.join(", ")).into()
}

const TASKS: &str = "/tasks/";
/// Greatest length of a path in a message, in characters.
pub(super) const MOST_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config::Cors;
    use crate::unified::StatusSpelling;

    fn mounts(prefixes: &[&str]) -> Vec<Mount> {
        let mount = |prefix: &&str| Mount {
            prefix: (*prefix).into(),
            dialect: Dialect::Native,
            video_statuses: StatusSpelling::Openai,
            hold: Duration::ZERO,
            storage_hosts: Arc::default(),
            cors: Cors::default(),
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
            assert_eq!((&*mounts[mount].prefix, found), (prefix, rest), "{path}");
        }
    }

    #[test]
    fn without_a_root_mount_some_paths_have_none() {
        assert!(find_mount(&mounts(&["/wan"]), "/api/v1/tasks").is_none());
    }
}
