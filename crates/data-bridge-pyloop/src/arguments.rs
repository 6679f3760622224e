//! The arguments of the raw methods: positional ones, and `context` by name.
//!
//! Read without allocating; asyncio's functions also take their positional arguments by name, which goes a longer way.

use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

use crate::py::imports::CONTEXT_NAME;
use crate::py::object::{checked, is_none_or_null, new_ref, raise, Obj, Raised, Raises};

/// The arguments of one call, as METH_FASTCALL | METH_KEYWORDS gives them.
pub struct Arguments {
    /// The positional arguments, borrowed.
    pub positional: *const Obj,
    /// How many there are.
    pub count: usize,
    /// The `context` keyword, borrowed; null for absent or None.
    pub context: Obj,
}

impl Arguments {
    /// Reads the arguments: `required` names those that must be there, and `context` is the one keyword.
    ///
    /// # Safety
    /// As the interpreter calls a fastcall function.
    #[inline(always)]
    pub unsafe fn read(
        function: &str,
        required: &[&str],
        args: *const Obj,
        count: isize,
        keywords: Obj,
    ) -> Result<Self, Unread> {
        let count = count as usize;
        let mut context = null_mut();
        // SAFETY: the keyword values follow the positional ones, in the order of the tuple.
        unsafe {
            if !keywords.is_null() {
                for i in 0..ffi::PyTuple_GET_SIZE(keywords) {
                    let name = ffi::PyTuple_GET_ITEM(keywords, i);
                    if !is_context(name) {
                        return Err(Unread::OtherKeyword);
                    }
                    context = *args.add(count + i as usize);
                }
            }
            if count < required.len() {
                missing(function, required, count);
                return Err(Unread::Raised);
            }
        }
        if is_none_or_null(context) {
            context = null_mut();
        }
        Ok(Self { positional: args, count, context })
    }

    /// A new reference to the context that was given, or to a copy of the current one.
    ///
    /// # Safety
    /// Attached.
    #[inline(always)]
    pub unsafe fn context(&self) -> Raises<Obj> {
        // SAFETY: null, or alive for the length of the call.
        unsafe {
            if self.context.is_null() {
                checked(ffi::PyContext_CopyCurrent())
            } else if ffi::PyContext_CheckExact(self.context) != 0 {
                Ok(new_ref(self.context))
            } else {
                Err(raise(ffi::PyExc_TypeError, "context must be a contextvars.Context or None"))
            }
        }
    }

    /// The positional argument at `i`, borrowed.
    ///
    /// # Safety
    /// `read` required more than `i`.
    #[inline(always)]
    pub unsafe fn get(&self, i: usize) -> Obj {
        // SAFETY: the callers ask only for what `read` required.
        unsafe { *self.positional.add(i) }
    }
}

/// A keyword's name, known by the address of the str that said it last: comparing texts costs more than the rest of the reading.
pub struct Keyword {
    text: &'static CStr,
    /// Owned, so that nothing else can have its address.
    last: AtomicPtr<ffi::PyObject>,
}

/// `context`. asyncio's C Task has a str of its own for it, which is not the interned one.
static CONTEXT: Keyword = Keyword::new(c"context");
/// `name`.
pub static NAME: Keyword = Keyword::new(c"name");

impl Keyword {
    const fn new(text: &'static CStr) -> Self {
        Self { text, last: AtomicPtr::new(null_mut()) }
    }

    /// Whether `name` says this keyword.
    ///
    /// # Safety
    /// Attached; `name` is a str, alive.
    #[inline(always)]
    pub unsafe fn is(&self, name: Obj) -> bool {
        // SAFETY: the caller's promise.
        name == self.last.load(Ordering::Relaxed) || unsafe { self.compare(name) }
    }

    #[cold]
    unsafe fn compare(&self, name: Obj) -> bool {
        // SAFETY: as `is`; releasing a str runs no code.
        unsafe {
            let equal = ffi::PyUnicode_CompareWithASCIIString(name, self.text.as_ptr()) == 0;
            if equal {
                ffi::Py_XDECREF(self.last.swap(new_ref(name), Ordering::Relaxed));
            }
            equal
        }
    }
}

/// Whether a keyword says `context`.
///
/// # Safety
/// Attached; `name` is a str, alive.
#[inline(always)]
pub unsafe fn is_context(name: Obj) -> bool {
    // SAFETY: the caller's promise.
    name == CONTEXT_NAME.get() || unsafe { CONTEXT.is(name) }
}

/// Why arguments could not be read the short way.
pub enum Unread {
    /// An exception is set.
    Raised,
    /// A positional argument was given by its name, as asyncio's Python functions allow, or the name is unknown.
    OtherKeyword,
}

/// Calls `function` again with the arguments that were given by name in their places.
#[cold]
/// # Safety
/// As the interpreter calls `function`.
pub unsafe fn call_by_name(
    unread: Unread,
    function: ffi::PyCFunctionFastWithKeywords,
    name: &str,
    required: &[&str],
    (slf, args, count, keywords): (Obj, *const Obj, isize, Obj),
) -> Obj {
    if matches!(unread, Unread::Raised) {
        return null_mut();
    }
    // SAFETY: as `Arguments::read`; the stack borrows from the caller's arguments, which outlive this call.
    unsafe {
        let py = Python::assume_attached();
        let mut stack: Vec<Obj> = (0..count as usize).map(|i| *args.add(i)).collect();
        let mut context = null_mut();
        let mut named: Vec<(String, Obj)> = Vec::new();
        for i in 0..ffi::PyTuple_GET_SIZE(keywords) {
            let keyword =
                Bound::from_borrowed_ptr(py, ffi::PyTuple_GET_ITEM(keywords, i)).to_string();
            let value = *args.offset(count + i);
            if keyword == "context" {
                context = value;
            } else if !required.contains(&&*keyword) {
                let text = format!("{name}() got an unexpected keyword argument '{keyword}'");
                raise(ffi::PyExc_TypeError, &text);
                return null_mut();
            } else if required.iter().position(|r| *r == keyword).is_some_and(|at| at < stack.len())
            {
                let text = format!("{name}() got multiple values for argument '{keyword}'");
                raise(ffi::PyExc_TypeError, &text);
                return null_mut();
            } else {
                named.push((keyword, value));
            }
        }
        while let Some(next) = required.get(stack.len()) {
            match named.iter().position(|(keyword, _)| keyword == next) {
                Some(at) => stack.push(named.swap_remove(at).1),
                None => {
                    missing(name, required, stack.len());
                    return null_mut();
                }
            }
        }
        let positional = stack.len() as isize;
        let mut names = null_mut();
        if !context.is_null() {
            stack.push(context);
            names = ffi::PyTuple_New(1);
            if names.is_null() {
                return null_mut();
            }
            ffi::PyTuple_SET_ITEM(names, 0, ffi::PyUnicode_InternFromString(c"context".as_ptr()));
        }
        let result = function(slf, stack.as_ptr(), positional, names);
        ffi::Py_XDECREF(names);
        result
    }
}

#[cold]
fn missing(function: &str, required: &[&str], count: usize) -> Raised {
    let missing: Vec<_> = required[count..].iter().map(|name| format!("'{name}'")).collect();
    let plural = if missing.len() == 1 { "" } else { "s" };
    let text = format!(
        "{function}() missing {} required positional argument{plural}: {}",
        missing.len(),
        missing.join(" and ")
    );
    // SAFETY: called while attached, by the functions below.
    unsafe { raise(ffi::PyExc_TypeError, &text) }
}
