//! Addresses of datagrams that are remembered in both forms, as Python and as the kernel have them.
//!
//! A sender has one object for its address as long as it is remembered, and that object is known again when it is answered.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::py::object::{clear, Obj};
use crate::sys::SocketAddrAny;

/// How many senders are remembered once there is more than one.
const CROWD: usize = 64;

/// An address in both forms. Owns its reference, but has no destructor.
pub struct Known {
    /// Immutable through and through (str and int in a tuple, str, or bytes), so the same object is the same address; or null.
    object: Obj,
    address: Option<SocketAddrAny>,
}

impl Known {
    /// No address.
    pub const NOTHING: Self = Self { object: std::ptr::null_mut(), address: None };

    /// The kernel's form, if this is the object.
    #[inline]
    pub fn of(&self, object: Obj) -> Option<&SocketAddrAny> {
        self.address.as_ref().filter(|_| self.object == object)
    }

    /// Python's form, borrowed, if this is the address.
    #[inline]
    fn shown(&self, address: &SocketAddrAny) -> Option<Obj> {
        (self.address.as_ref() == Some(address)).then_some(self.object)
    }

    /// Remembers another; takes over the reference.
    ///
    /// # Safety
    /// Attached; `object` is immutable through and through.
    pub unsafe fn replace(&mut self, object: Obj, address: SocketAddrAny) {
        self.address = Some(address);
        let mut old = std::mem::replace(&mut self.object, object);
        // SAFETY: the reference that was ours; nothing of Python's runs at the end of a str, an int or a tuple of them.
        unsafe { clear(&mut old) };
    }

    /// Forgets it.
    ///
    /// # Safety
    /// Attached.
    pub unsafe fn forget(&mut self) {
        self.address = None;
        // SAFETY: as [`Known::replace`].
        unsafe { clear(&mut self.object) };
    }
}

/// Senders: one, or [`CROWD`] in places that their addresses tell.
pub struct Senders {
    places: Vec<Known>,
    last: usize,
}

impl Default for Senders {
    fn default() -> Self {
        Self { places: vec![Known::NOTHING], last: 0 }
    }
}

impl Senders {
    /// The one that was heard last.
    #[inline]
    pub fn last(&self) -> &Known {
        &self.places[self.last]
    }

    /// The object for an address, borrowed, if it is remembered; that sender is the last then.
    #[inline]
    pub fn find(&mut self, address: &SocketAddrAny) -> Option<Obj> {
        if let Some(object) = self.last().shown(address) {
            return Some(object);
        }
        let place = self.place(address);
        let object = self.places[place].shown(address)?;
        self.last = place;
        Some(object)
    }

    /// Remembers a sender, the last; takes over the reference.
    ///
    /// # Safety
    /// As [`Known::replace`].
    pub unsafe fn add(&mut self, object: Obj, address: SocketAddrAny) {
        if let [Known { address: Some(_), .. }] = self.places[..] {
            let first = self.places.pop();
            self.places.resize_with(CROWD, || Known::NOTHING);
            if let Some(Known { object, address: Some(address) }) = first {
                let place = self.place(&address);
                self.places[place] = Known { object, address: Some(address) };
            }
        }
        self.last = self.place(&address);
        // SAFETY: the caller's promise.
        unsafe { self.places[self.last].replace(object, address) };
    }

    fn place(&self, address: &SocketAddrAny) -> usize {
        if self.places.len() == 1 {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        address.hash(&mut hasher);
        hasher.finish() as usize % CROWD
    }

    /// Forgets all.
    ///
    /// # Safety
    /// Attached.
    pub unsafe fn forget(&mut self) {
        for known in &mut self.places {
            // SAFETY: the caller's promise.
            unsafe { known.forget() };
        }
    }
}
