//! Socket addresses as Python's socket module shows them.

use std::net::{SocketAddrV4, SocketAddrV6};

use pyo3::ffi;

use crate::py::object::{checked, none, Obj, Owned, Raised, Raises};
use crate::sys::{self, SocketAddrAny};

/// The address of one end, kept small: most are never looked at.
pub enum Address {
    /// None that we know of.
    Unknown,
    /// AF_INET.
    Inet(SocketAddrV4),
    /// AF_INET6.
    Inet6(SocketAddrV6),
    /// AF_UNIX: a path, empty for an unnamed socket, or a name that begins with a null byte.
    Unix(Box<[u8]>),
}

impl Address {
    /// Of what the kernel gave for a socket of this family; `Unknown` for a family that is not kept here.
    pub fn new(family: i32, given: Option<&SocketAddrAny>) -> Self {
        let known = match family {
            libc::AF_INET => {
                given.and_then(|a| SocketAddrV4::try_from(a.clone()).ok().map(Self::Inet))
            }
            libc::AF_INET6 => {
                given.and_then(|a| SocketAddrV6::try_from(a.clone()).ok().map(Self::Inet6))
            }
            libc::AF_UNIX => Some(Self::Unix(given.map(unix_name).unwrap_or_default())),
            _ => None,
        };
        known.unwrap_or(Self::Unknown)
    }

    /// The address family.
    pub fn family(&self) -> i32 {
        match self {
            Self::Unknown => libc::AF_UNSPEC,
            Self::Inet(_) => libc::AF_INET,
            Self::Inet6(_) => libc::AF_INET6,
            Self::Unix(_) => libc::AF_UNIX,
        }
    }

    /// As Python shows it: a tuple, a str, bytes, or None.
    pub fn to_python(&self) -> Raises<Obj> {
        // SAFETY: the caller is attached, as every caller of a function that returns references.
        unsafe {
            match self {
                Self::Unknown => Ok(none()),
                Self::Inet(a) => tuple(&a.ip().to_string(), &[u32::from(a.port())]),
                Self::Inet6(a) => tuple(
                    &sys::ipv6_text(*a.ip()),
                    &[u32::from(a.port()), a.flowinfo(), a.scope_id()],
                ),
                Self::Unix(name) => {
                    let (start, len) = (name.as_ptr().cast(), name.len() as isize);
                    checked(if name.first() == Some(&0) {
                        ffi::PyBytes_FromStringAndSize(start, len)
                    } else {
                        ffi::PyUnicode_DecodeFSDefaultAndSize(start, len)
                    })
                }
            }
        }
    }
}

fn unix_name(given: &SocketAddrAny) -> Box<[u8]> {
    let Ok(address) = rustix::net::SocketAddrUnix::try_from(given.clone()) else {
        return Box::default();
    };
    #[cfg(target_os = "linux")]
    // An unnamed socket seems to have an abstract name without characters.
    if let Some(name) = address.abstract_name().filter(|name| !name.is_empty()) {
        return [&[0], name].concat().into();
    }
    address.path().map(|path| path.to_bytes().into()).unwrap_or_default()
}

/// `(host, *numbers)`.
///
/// # Safety
/// Attached.
unsafe fn tuple(host: &str, numbers: &[u32]) -> Raises<Obj> {
    // SAFETY: a new tuple's items are set before anybody sees it.
    unsafe {
        let made = Owned::from_new(ffi::PyTuple_New(1 + numbers.len() as isize))?;
        let host = ffi::PyUnicode_FromStringAndSize(host.as_ptr().cast(), host.len() as isize);
        ffi::PyTuple_SET_ITEM(made.as_ptr(), 0, checked(host)?);
        for (index, &number) in numbers.iter().enumerate() {
            let number = ffi::PyLong_FromUnsignedLong(number.into());
            if number.is_null() {
                return Err(Raised);
            }
            ffi::PyTuple_SET_ITEM(made.as_ptr(), index as isize + 1, number);
        }
        Ok(made.into_ptr())
    }
}
