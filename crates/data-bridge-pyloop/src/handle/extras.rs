//! What only few handles have: kept in a box of its own, so that the many are small.

use std::ptr::null_mut;

use pyo3::ffi;

use super::Handle;
use crate::py::object::{new_ref, Obj};

/// What only few handles have: references, null or owned.
pub(crate) struct Extras {
    /// A tuple of all arguments when there are more than [`super::INLINE`].
    pub(crate) more: Obj,
    /// The stack of the maker, in debug mode.
    pub(crate) source_traceback: Obj,
    /// What a handle cancelled in debug mode looked like.
    pub(crate) repr: Obj,
    /// The deadline as the caller gave it, when that was no exact float.
    pub(crate) when_given: Obj,
    /// The object, other than a number, whose descriptor the handle watches.
    pub(crate) watched: Obj,
}

impl Extras {
    /// All of them, for the garbage collector.
    pub(crate) fn references(&self) -> [Obj; 5] {
        [self.more, self.source_traceback, self.repr, self.when_given, self.watched]
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.references() == [null_mut(); 5]
    }
}

/// What a handle without a box has.
const NONE: &Extras = &Extras {
    more: null_mut(),
    source_traceback: null_mut(),
    repr: null_mut(),
    when_given: null_mut(),
    watched: null_mut(),
};

impl Handle {
    /// The extras, to look at.
    pub(crate) fn extras(&self) -> &Extras {
        // SAFETY: null or the handle's own.
        unsafe { self.extras.as_ref() }.unwrap_or(NONE)
    }

    /// The extras, to change; made where they are missing.
    pub(crate) fn extras_mut(&mut self) -> &mut Extras {
        if self.extras.is_null() {
            self.extras = Box::into_raw(Box::new(Extras { ..*NONE }));
        }
        // SAFETY: the handle's own, not null.
        unsafe { &mut *self.extras }
    }

    /// Gives up the extras, with their references.
    pub(crate) fn take_extras(&mut self) -> Option<Box<Extras>> {
        let extras = std::mem::replace(&mut self.extras, null_mut());
        // SAFETY: null, or made by `extras_mut` and now nobody's but the caller's.
        (!extras.is_null()).then(|| unsafe { Box::from_raw(extras) })
    }

    /// Gives up the tuple of arguments.
    #[inline(always)]
    pub(super) fn take_more(&mut self) -> Obj {
        // SAFETY: null or the handle's own.
        match unsafe { self.extras.as_mut() } {
            Some(extras) => std::mem::replace(&mut extras.more, null_mut()),
            None => null_mut(),
        }
    }

    /// Gives the handle the stack of its maker, as asyncio does in debug mode.
    ///
    /// # Safety
    /// Attached; `traceback` is an owned reference or null.
    pub unsafe fn set_source_traceback(&mut self, traceback: Obj) {
        let old = std::mem::replace(&mut self.extras_mut().source_traceback, traceback);
        // SAFETY: the reference that the handle held.
        unsafe { ffi::Py_XDECREF(old) };
    }

    /// Has the handle keep the object whose descriptor it watches.
    ///
    /// # Safety
    /// Attached; the handle is new, `watched` is alive.
    pub(crate) unsafe fn keep_watched(&mut self, watched: Obj) {
        // SAFETY: the caller's promise.
        self.extras_mut().watched = unsafe { new_ref(watched) };
    }

    /// Gives the handle a text to be shown as.
    ///
    /// # Safety
    /// Attached; `text` is an owned reference or null.
    pub(crate) unsafe fn set_repr(&mut self, text: Obj) {
        let old = std::mem::replace(&mut self.extras_mut().repr, text);
        // SAFETY: the reference that the handle held.
        unsafe { ffi::Py_XDECREF(old) };
    }
}
